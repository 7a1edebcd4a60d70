//! What we may have to be allowed to do: the same table for `platforms check` and for `deploy/k8s`, whose Role a test holds to it
//! and to what the driver really asks for.

use k8s_openapi::api::authorization::v1::ResourceAttributes;

/// A verb on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The group of its API; empty: the core.
    pub group: &'static str,
    /// With what is below it: `pods/log`.
    pub resource: &'static str,
    /// `create`, `get`, …
    pub verb: &'static str,
    /// Without it no runner runs, or none is seen to its end.
    pub needed: bool,
}

const fn needs(group: &'static str, resource: &'static str, verb: &'static str) -> Right {
    Right { group, resource, verb, needed: true }
}

const fn likes(group: &'static str, resource: &'static str, verb: &'static str) -> Right {
    Right { group, resource, verb, needed: false }
}

/// All of them. There is no `get` or `list` of Secrets among them: they are made, and go with their Job.
pub const RIGHTS: [Right; 15] = [
    needs("batch", "jobs", "create"),
    needs("batch", "jobs", "get"),
    needs("batch", "jobs", "list"),
    needs("batch", "jobs", "patch"),
    needs("batch", "jobs", "delete"),
    needs("", "pods", "list"),
    needs("", "pods", "watch"),
    needs("", "pods", "patch"),
    needs("", "pods", "delete"),
    needs("", "secrets", "create"),
    // Why a Job has no pods.
    needs("", "events", "list"),
    likes("", "pods/log", "get"),
    likes("", "resourcequotas", "list"),
    likes("", "namespaces", "get"),
    likes("metrics.k8s.io", "pods", "list"),
];

impl Right {
    /// As a review of access asks for it.
    #[must_use]
    pub fn attributes(&self, namespace: &str) -> ResourceAttributes {
        let (resource, below) = match self.resource.split_once('/') {
            Some((resource, below)) => (resource, Some(below.to_owned())),
            None => (self.resource, None),
        };
        ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: below,
            verb: Some(self.verb.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: (resource == "namespaces").then(|| namespace.to_owned()),
            ..ResourceAttributes::default()
        }
    }

    /// `list pods`, `get pods.metrics.k8s.io`: as `kubectl auth can-i` takes it.
    #[must_use]
    pub fn said(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{} {}{group}", self.verb, self.resource)
    }
}
