//! What is shown instead of a page that there is not.

use maud::html;

use super::frame::Frame;
use super::part;

/// A page that says why there is none.
pub fn page(frame: &Frame, status: u16, title: &str, text: &str) -> String {
    let main = html! {
        div .narrow.failed {
            p .status { (status) }
            h1 { (part::said(title)) }
            p .lines { (part::said_lines(text)) }
            p { a .button href="/" { "All projects" } }
        }
    };
    frame.page(title, &[], None, main)
}
