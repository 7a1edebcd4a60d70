//! What is on the wire stays as it is: golden files for every message, and where each of them goes.

mod examples;
mod golden;
mod subjects;
