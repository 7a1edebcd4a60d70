//! Platforms of kind `aws`: runners are tasks of AWS ECS.
