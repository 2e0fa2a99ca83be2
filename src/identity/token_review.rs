//! Kubernetes' TokenReview: asks the cluster whether the pod of a token is still there. Keys alone cannot tell, and a
//! projected token outlives its pod. <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>

use serde_json::{Value, json};

use crate::{
    domain::ci::TokenReview,
    identity::{
        issuers::{self, Error, is_protected},
        jwt,
    },
    secret::Secret,
};

/// Longer than any token.
const LONGEST_FILE: u64 = 64 * 1024;

/// Does the cluster still stand by this token, for one of these audiences? Why not, if it does not.
///
/// # Errors
/// If the cluster cannot be asked.
pub async fn review(
    review: &TokenReview,
    token: &str,
    audiences: &[String],
) -> Result<Result<(), String>, Error> {
    let base = review.url.trim_end_matches('/');
    let url = format!("{base}/apis/authentication.k8s.io/v1/tokenreviews");
    if !is_protected(&url) {
        return Err(Error::unusable(&url, "it is not https"));
    }
    let own = own_token(&review.token_file).await.map_err(|why| Error::unusable(&url, &why))?;
    let http = issuers::client(review.ca.as_deref());
    let http = http.map_err(|e| Error::unusable(&url, &e.to_string()))?;
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": audiences },
    });
    let answer: Value =
        issuers::read(&url, http.post(&url).bearer_auth(own.expose()).json(&body)).await?;
    let said = |name: &str| answer.get("status").and_then(|status| status.get(name));
    if said("authenticated") != Some(&Value::Bool(true)) {
        let why = said("error").and_then(Value::as_str).unwrap_or("the token is not good any more");
        return Ok(Err(why.chars().filter(|c| !c.is_control()).take(200).collect()));
    }
    // A server that does not know of audiences names none: it has not looked at them.
    let told = said("audiences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if told.iter().filter_map(Value::as_str).any(|told| audiences.iter().any(|ours| ours == told)) {
        Ok(Ok(()))
    } else {
        Ok(Err("the cluster does not say that it is for this audience".to_owned()))
    }
}

/// Read anew each time: the kubelet writes a fresh one before the last is over. Only what is a token is sent, so that
/// a rule cannot have other files sent away.
async fn own_token(path: &str) -> Result<Secret<String>, String> {
    let unreadable = |e: std::io::Error| format!("token_file {path}: {e}");
    let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if size > LONGEST_FILE {
        return Err(format!("token_file {path} is too long for a token"));
    }
    let text = Secret::new(tokio::fs::read_to_string(path).await.map_err(unreadable)?);
    let token = text.expose().trim();
    if !jwt::is_like_one(token) {
        return Err(format!("token_file {path} holds no service account's token"));
    }
    Ok(Secret::new(token.to_owned()))
}
