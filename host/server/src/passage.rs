//! The way of every request to its handler and back: one layer around them all, and a door before each.
//!
//! What layers do is done by two functions here, since at every request each layer clones all that is below it, and boxes
//! what it does.

use std::pin::Pin;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::gate::{self, Caller};
use crate::oakestra;
use crate::shared::App;
use crate::v1;

/// Around every handler, and whatever answers where there is none: looks where the request comes from, and notes it, in the
/// log without its query and headers, with the id of its token; in the metrics by its route.
pub async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, asked) = (request.method().clone(), lodger::text::shown(request.uri().path(), 200));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let is_oakestra = request.uri().path().starts_with(oakestra::PREFIX);
    let place = gate::local(&app, &request);
    let client = place.as_ref().ok().map(gate::Place::client);
    let mut response = match place {
        Ok(place) => {
            request.extensions_mut().insert(place.clone());
            let response = next.run(request).await;
            drop(place);
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    if is_oakestra {
        oakestra::shape(&mut response);
    }
    // No answer is for a cache, or for a browser to make something else of.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

    let (status, took) = (response.status().as_u16(), begun.elapsed());
    app.metrics.request(&method, route.as_ref().map_or("", MatchedPath::as_str), status);
    let client = client.map(|client| client.to_string());
    let token = response.extensions().get::<Caller>().map(|caller| caller.token.id.as_str());
    tracing::info!(%method, path = asked, status, ms = took.as_millis(), client, token, "request");
    response
}

/// Who gets through to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody.
    Open,
    /// The same: the handler asks for a platform's credentials.
    Platforms,
    /// Only with a token whose scopes include what is asked.
    Closed,
    /// The same, and what asks for that is put on record.
    OnRecord,
}

/// A handler behind its door.
#[derive(Clone)]
pub struct Behind<H>(pub Door, pub H);

impl<T: 'static, H: Handler<T, App>> Handler<T, App> for Behind<H> {
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, mut request: Request, app: App) -> Self::Future {
        let Behind(door, handler) = self;
        Box::pin(async move {
            if matches!(door, Door::Open | Door::Platforms) {
                return handler.call(request, app).await;
            }
            let caller = match gate::admit(&app, &mut request).await {
                Ok(caller) => caller,
                Err(problem) => return problem.into_response(),
            };
            request.extensions_mut().insert(caller.clone());
            let mut response = match door {
                Door::OnRecord => v1::record(app, request, handler).await.into_response(),
                _ => handler.call(request, app).await,
            };
            // For the log.
            response.extensions_mut().insert(caller);
            response
        })
    }
}
