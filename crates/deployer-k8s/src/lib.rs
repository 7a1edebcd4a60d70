//! Platforms of kind `k8s`: runners are Kubernetes Jobs.
