//! Platforms of kind `nomad`: runners are batch jobs of HashiCorp Nomad.
