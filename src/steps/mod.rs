//! The step library of both planes: one file a step, each with what it reads from TOML, how it is
//! checked and how it runs.

