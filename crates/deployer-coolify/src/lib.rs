//! Platforms of kind `coolify`: standing slots are applications of a Coolify server.
