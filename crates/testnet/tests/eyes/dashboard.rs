//! The dashboard names only metrics that there are.
