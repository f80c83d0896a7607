//! A client over the unix socket. (in the making)
