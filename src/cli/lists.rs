//! Lists of the API, page after page: as many items as are asked for, or as there are.

use crate::cli::{call::Call, client::Client, failure::Failure};

/// The API's largest page.
const MOST_PER_PAGE: usize = 100;

impl Client {
    /// A list (`leases`, `targets`, `profiles`, `tokens`, `audit`), newest first: page after page
    /// until there are `limit` or no more. As JSON, so that `--json` prints all that came.
    ///
    /// # Errors
    /// As each of the methods.
    pub async fn list(
        &self,
        kind: &str,
        filter: &[(&'static str, Option<&str>)],
        limit: usize,
    ) -> Result<Vec<serde_json::Value>, Failure> {
        self.list_at(&["v1", kind], filter, limit).await
    }

    /// The same of a list that is part of a record.
    pub(in crate::cli) async fn list_at(
        &self,
        path: &[&str],
        filter: &[(&'static str, Option<&str>)],
        limit: usize,
    ) -> Result<Vec<serde_json::Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let mut call = Call::get(path);
            for (name, value) in filter {
                call.query.extend(value.map(|value| (*name, value.to_owned())));
            }
            call.query.push(("limit", (limit - items.len()).min(MOST_PER_PAGE).to_string()));
            call.query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: crate::api::Page<serde_json::Value> = self.read(call).await?.value;
            let came = page.items.len();
            items.extend(page.items);
            cursor = page.next_cursor.filter(|_| came > 0);
            if cursor.is_none() {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }
}
