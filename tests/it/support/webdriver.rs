//! WebDriver, as far as the tests speak it (<https://www.w3.org/TR/webdriver2/>): JSON over HTTP to a driver, which
//! moves a browser.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::seconds;

/// What an element is called in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The tabulator and Enter, as WebDriver writes keys.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";

/// One browser at a driver.
pub(crate) struct Session {
    http: reqwest::Client,
    url: String,
}

/// Something on a page.
pub(crate) struct Element(String);

impl Session {
    /// Opens a browser that can do what is wanted of it.
    pub(crate) async fn open(driver: &str, wanted: Value) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(seconds(60)).build().unwrap();
        let mut session = Self { http, url: format!("{driver}/session") };
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let opened = session.command(Method::POST, "", Some(body)).await.unwrap();
        session.url = format!("{}/{}", session.url, opened["sessionId"].as_str().unwrap());
        session
    }

    /// Any command; what the driver says is wrong, if it is.
    pub(crate) async fn command(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let good = answer.status().is_success();
        let mut body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let value = body["value"].take();
        if good { Ok(value) } else { Err(format!("{path}: {}", value["message"])) }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.command(Method::GET, path, None).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.command(Method::POST, path, Some(body)).await.unwrap()
    }

    /// The elements that an expression of XPath finds.
    pub(crate) async fn find(&self, path: &str) -> Vec<Element> {
        let found = self.post("/elements", json!({ "using": "xpath", "value": path })).await;
        let id = |element: &Value| Element(element[ELEMENT].as_str().unwrap().to_owned());
        found.as_array().unwrap().iter().map(id).collect()
    }

    pub(crate) async fn click(&self, element: &Element) {
        self.post(&format!("/element/{}/click", element.0), json!({})).await;
    }

    /// Writes into a field, in place of what was in it.
    pub(crate) async fn write(&self, element: &Element, text: &str) {
        self.post(&format!("/element/{}/clear", element.0), json!({})).await;
        self.post(&format!("/element/{}/value", element.0), json!({ "text": text })).await;
    }

    /// Presses a key, wherever the focus is.
    pub(crate) async fn key(&self, key: &str) {
        let keys = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] });
        self.post("/actions", actions).await;
    }

    /// What a script gives that is run in the page, as by somebody at its console.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The same for one that says later what it gives.
    pub(crate) async fn script_later(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// A command of Chromium's own.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", body).await
    }

    /// What the console said since it was last asked.
    pub(crate) async fn console(&self) -> Vec<String> {
        let said = self.post("/se/log", json!({ "type": "browser" })).await;
        let line = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        said.as_array().unwrap().iter().map(line).collect()
    }

    /// Ends the browser.
    pub(crate) async fn close(self) {
        self.command(Method::DELETE, "", None).await.unwrap();
    }
}
