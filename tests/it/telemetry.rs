//! What is told of a call, and to whom: a collector and Application Insights on loopback look at what arrives. Whether
//! they answer makes no difference to callers, and nobody is told a secret, a row or a statement.

mod deployment;
mod insights;
mod measures;
mod redaction;
mod traces;
