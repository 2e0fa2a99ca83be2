//! Who looks at a page: whoever the cookie of the browser says. A token or a certificate is for programs, and no
//! page is shown to them: a certificate is sent by the browser itself, and its owner could not sign out.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use crate::{
    app::{App, Origin, error::Error},
    http::{
        caller::{From, another_page},
        cookie::{self, Cookie},
        pages::form::FormToken,
        problem::Failure,
    },
    identity::Caller,
};

/// Somebody who is signed in.
pub(in crate::http) struct Visitor {
    /// Who it is.
    pub(in crate::http) caller: Caller,
    /// Where the request came from.
    pub(in crate::http) origin: Origin,
    /// What the forms of their pages carry.
    pub(in crate::http) form_token: FormToken,
}

impl Visitor {
    /// Reads who it is from the request's cookie.
    pub(in crate::http) async fn read(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let Ok(From(origin)) = From::from_request_parts(parts, app).await;
        let cookie = Cookie::Session.read(&parts.headers, app).ok_or(Error::TokenMissing)?;
        let may_speak = cookie::may_speak(&parts.method, &parts.headers, app)
            || cookie::is_opened(&parts.method, &parts.headers);
        if !may_speak {
            return Err(another_page());
        }
        let caller = app.sign_in_by_cookie(cookie.expose(), &origin).await?;
        Ok(Self { caller, origin, form_token: FormToken::of(&cookie) })
    }
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        Self::read(parts, app).await
    }
}

/// Whoever is signed in; none without a session, or with one that is over.
pub(in crate::http) struct Anybody(pub(in crate::http) Option<Visitor>);

impl FromRequestParts<Arc<App>> for Anybody {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        match Visitor::read(parts, app).await {
            Ok(visitor) => Ok(Self(Some(visitor))),
            Err(failure) if failure.status() == StatusCode::UNAUTHORIZED => Ok(Self(None)),
            Err(failure) => Err(failure),
        }
    }
}
