//! Ways in. A door turns what it hears into requests for `provision` and the supervisor; it decides nothing.

pub mod http;
