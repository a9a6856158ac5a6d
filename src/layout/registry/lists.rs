//! Lists of repositories and tags, a page at a time.

use axum::{body::Body, response::Response};
use http::{StatusCode, Uri};
use serde_json::json;

use super::{Registry, refusal::Refusal, with_header};

/// Answers `/v2/_catalog`.
pub(super) fn catalog(registry: &Registry, uri: &Uri) -> Result<Response, Refusal> {
    let page = Page::of(uri)?.cut(registry.layout.repositories());
    Ok(listed(uri, json!({"repositories": page.items}), &page))
}

/// Answers `/v2/<name>/tags/list`.
pub(super) fn tags(registry: &Registry, name: &str, uri: &Uri) -> Result<Response, Refusal> {
    let tags = registry.layout.tags(name);
    let tags = tags.ok_or_else(|| Refusal::name_unknown(name))?;
    let page = Page::of(uri)?.cut(tags.iter().map(ToString::to_string).collect());
    Ok(listed(
        uri,
        json!({"name": name, "tags": page.items}),
        &page,
    ))
}

/// Which part of a list is asked for.
#[derive(Debug, Default)]
struct Page {
    n: Option<usize>,
    last: Option<String>,
}

/// A part of a list.
struct Cut {
    items: Vec<String>,
    /// Asks for what comes after it; `None` where that is nothing.
    next: Option<(usize, String)>,
}

impl Page {
    fn of(uri: &Uri) -> Result<Self, Refusal> {
        let mut page = Page::default();
        for (key, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            match key.as_ref() {
                "n" => page.n = Some(value.parse().map_err(|_| number_invalid(&value))?),
                "last" => page.last = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(page)
    }

    /// Cuts the part out of the sorted whole.
    fn cut(self, mut items: Vec<String>) -> Cut {
        if let Some(last) = self.last {
            items.retain(|item| *item > last);
        }
        let n = self.n.unwrap_or(usize::MAX);
        let more = items.len() > n;
        items.truncate(n);
        let next = items.last().filter(|_| more).map(|last| (n, last.clone()));
        Cut { items, next }
    }
}

fn number_invalid(value: &str) -> Refusal {
    let value: String = value.chars().take(40).collect();
    let message = format!("`n={value}` is not a number of entries");
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "PAGINATION_NUMBER_INVALID",
        message,
    )
}

fn listed(uri: &Uri, document: serde_json::Value, page: &Cut) -> Response {
    let response = Response::new(Body::from(document.to_string()));
    let response = with_header(response, "content-type", "application/json".to_owned());
    match &page.next {
        Some((n, last)) => {
            // Repositories and tags need no escaping in a query, but for the slash, which may stand there as it is.
            let link = format!("<{}?n={n}&last={last}>; rel=\"next\"", uri.path());
            with_header(response, "link", link)
        }
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole() {
        let whole: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let mut seen = Vec::new();
        let mut page = Page {
            n: Some(2),
            last: None,
        };
        loop {
            let cut = page.cut(whole.clone());
            seen.extend(cut.items);
            match cut.next {
                Some((n, last)) => {
                    page = Page {
                        n: Some(n),
                        last: Some(last),
                    }
                }
                None => break,
            }
        }
        assert_eq!(seen, whole);
    }

    #[test]
    fn page_of_none_ends() {
        let cut = Page {
            n: Some(0),
            last: None,
        }
        .cut(vec!["a".to_owned()]);
        assert!(cut.items.is_empty() && cut.next.is_none());
    }
}
