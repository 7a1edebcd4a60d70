/// A field of a request that is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its path in JSON, such as `meeting.url` or `platforms[1]`; a query parameter's name; `(body)` for the whole body.
    pub field: String,
    /// The allowed values. It never repeats the given one.
    pub description: String,
}

impl Violation {
    /// Creates a violation.
    pub fn new(field: impl Into<String>, description: impl ToString) -> Self {
        Self { field: field.into(), description: description.to_string() }
    }
}
