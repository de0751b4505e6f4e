//! Who sends a request: found out once, before anything else reads it, and carried with it.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::identity::Verifier;

/// Puts the caller, or why there is none, beside the request. What needs no caller, such as the list of tools, is
/// answered all the same; what does need one is refused where it is asked for.
pub(super) async fn prove_caller(State(verifier): State<Verifier>, mut request: Request, next: Next) -> Response {
    let proved = verifier.verify(request.headers());
    request.extensions_mut().insert(proved);
    next.run(request).await
}
