//! A client of a shared cache.
//!
//! It blocks, has deadlines, and stops asking a cache that does not answer: a slow or dead cache costs a warning.
