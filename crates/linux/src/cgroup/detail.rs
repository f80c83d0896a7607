//! Everything that is accounted.
