//! What stands around every page: head, navigation, notices, the symbols.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use model::Timestamp;

use super::part;

/// Where the files that pages need are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The style sheet.
    pub style: String,
    /// The script.
    pub script: String,
    /// The icon.
    pub icon: String,
}

/// Who looks at a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// The name; empty for somebody who did not sign in.
    pub name: String,
    /// May see and change what is of the whole server.
    pub admin: bool,
    /// Shows that a form is ours.
    pub csrf: String,
}

/// What came of the last thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it worked.
    pub good: bool,
    /// A sentence.
    pub text: String,
}

/// A step of the way to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crumb {
    /// What it is called.
    pub text: String,
    /// Where it is.
    pub href: String,
}

impl Crumb {
    /// A step of the way.
    pub fn new(text: impl Into<String>, href: impl Into<String>) -> Crumb {
        Crumb { text: text.into(), href: href.into() }
    }
}

/// What stands around every page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Where the files are.
    pub site: Site,
    /// Who looks.
    pub visitor: Visitor,
    /// When.
    pub now: Timestamp,
    /// What came of the last thing.
    pub notice: Option<Notice>,
}

impl Frame {
    /// A whole page. `live` is where to hear that something on it changed.
    pub fn page(&self, title: &str, crumbs: &[Crumb], live: Option<&str>, main: Markup) -> String {
        let title = crate::ansi::strip(title);
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Paceline" }
                    link rel="icon" href=(self.site.icon) type="image/svg+xml";
                    link rel="stylesheet" href=(self.site.style);
                    script src=(self.site.script) defer {}
                }
                body data-live=[live] {
                    (PreEscaped(SYMBOLS))
                    a .skip href="#main" { "Skip to content" }
                    (self.header(crumbs))
                    main #main tabindex="-1" {
                        (self.notice())
                        (main)
                    }
                    footer { p { "Paceline" } }
                }
            }
        }
        .into_string()
    }

    fn header(&self, crumbs: &[Crumb]) -> Markup {
        let Visitor { name, admin, csrf } = &self.visitor;
        html! {
            header .top {
                nav .crumbs aria-label="You are here" {
                    a .home href="/" { (PreEscaped(MARK)) span { "Paceline" } }
                    @for crumb in crumbs {
                        span .sep aria-hidden="true" { "/" }
                        a href=(crumb.href) { (part::said(&crumb.text)) }
                    }
                }
                nav .who aria-label="You and this server" {
                    @if *admin {
                        a href="/agents" { "Agents" }
                        a href="/users" { "Users" }
                        a href="/audit" { "Audit" }
                    }
                    @if name.is_empty() {
                        a href="/sign-in" { "Sign in" }
                    } @else {
                        a href="/tokens" title="Your tokens" { (part::said(name)) }
                        (part::button(csrf, "/sign-out", "link", "Sign out", ""))
                    }
                }
            }
        }
    }

    fn notice(&self) -> Markup {
        html! {
            @if let Some(Notice { good, text }) = &self.notice {
                @if *good {
                    div .notice.good role="status" { p { (part::said(text)) } }
                } @else {
                    div .notice.bad role="alert" { p .lines { (part::said_lines(text)) } }
                }
            }
        }
    }
}

const MARK: &str = r#"<svg viewBox="0 0 16 16" width="20" height="20" aria-hidden="true" class="mark"><path d="M2 12.5 6.2 3.5h2.1L4.1 12.5zM7.7 12.5l4.2-9H14l-4.2 9z"/></svg>"#;

/// The symbols of states, once in each page: a page with a thousand steps says `use` a thousand times.
const SYMBOLS: &str = r#"<svg hidden class="symbols" width="0" height="0" aria-hidden="true"><defs>
<symbol id="i-good" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7"/><path class="cut" d="M4.8 8.3 7 10.5l4.3-4.6"/></symbol>
<symbol id="i-bad" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7"/><path class="cut" d="m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2"/></symbol>
<symbol id="i-warn" viewBox="0 0 16 16"><path d="M7 1.9.9 12.6A1.2 1.2 0 0 0 1.9 14.4h12.2a1.2 1.2 0 0 0 1-1.8L9 1.9a1.2 1.2 0 0 0-2 0z"/><path class="cut" d="M8 5.6v4m0 2v.4"/></symbol>
<symbol id="i-busy" viewBox="0 0 16 16"><circle class="ring" cx="8" cy="8" r="6"/><path class="arc" d="M8 2a6 6 0 0 1 6 6"/></symbol>
<symbol id="i-wait" viewBox="0 0 16 16"><circle class="line" cx="8" cy="8" r="6"/><path class="line" d="M8 4.7V8l2.2 1.6"/></symbol>
<symbol id="i-quiet" viewBox="0 0 16 16"><circle class="line" cx="8" cy="8" r="6"/><path class="line" d="m4 12 8-8"/></symbol>
</defs></svg>"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_no_script_or_style_of_its_own() {
        let frame = Frame { notice: Some(Notice { good: false, text: "<b>no</b>".into() }), ..Frame::default() };
        let page = frame.page("</title><script>x", &[Crumb::new("<i>", "/p/%3Ci%3E")], Some("/live"), html! {});
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"), "{page}");
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(
            page.contains("&lt;/title&gt;") && page.contains("&lt;b&gt;no&lt;/b&gt;") && page.contains("&lt;i&gt;")
        );
    }
}
