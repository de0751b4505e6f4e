//! Clients that are broken, or mean harm: whatever they send, they get a well-formed answer or a closed connection within
//! a bound, the server never panics, its memory stays where it was, and others are served all the while.

mod floods;
mod framing;
mod heads;
mod messages;
mod slow;
