//! Whole-node tests: the harness. (in the making)
