//! The three files that pages need. Their names carry a hash of what is in them, so browsers keep them for ever.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use view::page::{Site, ansi_html};

struct Asset {
    name: String,
    kind: &'static str,
    text: String,
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    let style = include_str!("../../../../ui/app.css").to_owned() + &ansi_html::style_sheet();
    [
        asset("app", "css", "text/css; charset=utf-8", style),
        asset("app", "js", "text/javascript; charset=utf-8", include_str!("../../../../ui/app.js").to_owned()),
        asset("icon", "svg", "image/svg+xml", include_str!("../../../../ui/icon.svg").to_owned()),
    ]
});

fn asset(name: &str, ending: &str, kind: &'static str, text: String) -> Asset {
    let hash = access::sha256(&text);
    Asset { name: format!("{name}.{}.{ending}", &hash[..12]), kind, text }
}

/// Where the files are.
pub(super) fn site() -> Site {
    let [style, script, icon] = &*ASSETS;
    let at = |asset: &Asset| format!("/assets/{}", asset.name);
    Site { style: at(style), script: at(script), icon: at(icon) }
}

pub(super) fn routes() -> Router {
    Router::new().route("/assets/{name}", get(file)).route("/favicon.ico", get(|| file(Path(ASSETS[2].name.clone()))))
}

async fn file(Path(name): Path<String>) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    ];
    (headers, asset.text.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_with_what_is_in_them() {
        let names: Vec<&str> = ASSETS.iter().map(|asset| asset.name.as_str()).collect();
        assert!(names[0].starts_with("app.") && names[0].ends_with(".css") && names[0].len() == "app..css".len() + 12);
        assert_ne!(asset("a", "js", "", "1".into()).name, asset("a", "js", "", "2".into()).name);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in ASSETS.iter() {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("http://") && !text.contains("https://") && !text.contains("@import"),
                "{}",
                asset.name
            );
            assert!(!text.contains("eval(") && !text.contains("Function("), "{}", asset.name);
        }
    }
}
