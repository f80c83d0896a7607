//! The program as a whole against a node that says what a test tells it to.

mod fake;
mod foreground;
mod networks;
mod requests;
