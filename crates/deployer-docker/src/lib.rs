//! Platforms of kind `docker`: runners are containers of one or several Docker engines.
