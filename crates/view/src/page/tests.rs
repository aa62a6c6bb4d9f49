//! What holds for every page.

use model::{NodeIx, RunEvent, RunNumber, RunSummary, Timestamp};

use super::admin::{AgentRow, Agents, AuditLine, Deliveries, DeliveryLine, UserRow, Users, audit};
use super::project::{Filter, ProjectPage, Rights};
use super::projects::{NewProject, ProjectRow, Projects};
use super::run::{Approval, ArtifactRow, RunPage};
use super::secrets::{SecretRow, Secrets};
use super::settings::Settings;
use super::sign_in::{LinkKind, LinkPage, SignIn};
use super::step::{StepPage, Window, attempts};
use super::tokens::{TokenRow, Tokens};
use super::trigger::Trigger;
use super::{Frame, Notice, Site, Visitor, failure};
use crate::scene::{Scene, exit};

/// What a stranger would like to see happen.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'\x1b]0;owned\x07\x1b[2J\u{202e}";

fn frame() -> Frame {
    let site =
        Site { style: "/assets/app.css".into(), script: "/assets/app.js".into(), icon: "/assets/icon.svg".into() };
    let visitor = Visitor { name: HOSTILE.into(), admin: true, csrf: "c5rf".into() };
    let notice = Some(Notice { good: false, text: HOSTILE.into() });
    Frame { site, visitor, now: Timestamp(1_795_255_182_000_000), notice }
}

fn summary(scene: &mut Scene) -> RunSummary {
    let facts = scene.facts();
    let RunEvent::Requested { plan } = &facts[0].event else { panic!("requested first") };
    let mut plan = model::Plan::clone(plan);
    plan.name = HOSTILE.into();
    plan.context.trigger.git.message = HOSTILE.into();
    plan.context.trigger.git.branch = HOSTILE.into();
    plan.context.trigger.git.author = HOSTILE.into();
    plan.context.trigger.git.commit = HOSTILE.into();
    let requested = model::Fact { event: RunEvent::Requested { plan: plan.into() }, ..facts[0].clone() };
    let mut summary = RunSummary::first(&HOSTILE.into(), &requested).expect("a request");
    facts.iter().for_each(|fact| assert!(summary.fold(fact) || summary.outcome.is_none()));
    summary
}

fn scene() -> Scene {
    let mut scene = Scene::new("deps build:deps test[3]:build lint ship:test");
    scene.request().tell(RunEvent::Started);
    scene.leases("deps").hits("deps", 34.0).leases("build").fails("build", exit(1), &["error: <b>", HOSTILE]);
    scene.leases("lint").prints("lint", HOSTILE).waits(&[("ship", HOSTILE)]);
    scene
}

fn all() -> Vec<(&'static str, String)> {
    let (frame, mut scene) = (frame(), scene());
    let (summary, facts) = (summary(&mut scene), scene.facts());
    let rights = Rights { run: true, manage: true };
    let s = || HOSTILE.to_owned();
    let at = frame.now;
    let rows = vec![ProjectRow { name: s(), repository: s(), last: Some(summary.clone()) }];
    let projects = Projects { rows, next: Some(s()), active: vec![summary.clone()], may_create: true };
    let project = ProjectPage {
        name: s(),
        repository: s(),
        rights,
        filter: Filter { branch: s(), pipeline: s(), state: s() },
        branches: vec![s()],
        pipelines: vec![s(), s()],
        runs: vec![summary.clone()],
        older: Some(7),
        later_page: false,
        hook: s(),
    };
    let approvals = vec![Approval { node: NodeIx(1), name: s(), message: s(), by: vec![s()], mine: true }];
    let artifacts = vec![ArtifactRow { name: s(), version: s(), files: 1, href: "/a".into() }];
    let run =
        RunPage { summary: &summary, view: scene.view(), rights, approvals, held: Some(s()), artifacts, all: true };
    let step = |node| StepPage {
        summary: &summary,
        view: scene.view(),
        node,
        rights,
        attempts: attempts(&facts, node),
        attempt: Some(model::AttemptNo(1)),
        window: Window { bytes: format!("1795255082123 {HOSTILE}\n").into(), from: 10, first_line: 2, length: 900 },
        follows: true,
    };
    let users = Users {
        rows: vec![UserRow { name: s(), admin: true, elsewhere: true, disabled: false, roles: vec![(s(), s())] }],
        next: Some(s()),
        invite: Some(s()),
        trouble: s(),
    };
    let agent = AgentRow {
        name: s(),
        here: true,
        paused: false,
        labels: vec![s()],
        busy: Some((1, 2)),
        about: s(),
        built_in: false,
    };
    let secret = SecretRow { key: s(), name: s(), branches: s(), environment: s(), version: 2, changed: at, by: s() };
    let token = TokenRow { key: s(), name: s(), scopes: s(), made: at, expires: Some(at) };
    let delivery = DeliveryLine { id: s(), at, source: s(), outcome: Some(s()) };
    let settings = Settings {
        name: s(),
        rights,
        repository: s(),
        pipelines: s(),
        hook: s(),
        has_credential: true,
        trouble: s(),
        ..Settings::default()
    };
    vec![
        ("projects", projects.page(&frame)),
        ("project", project.page(&frame)),
        ("run", run.page(&frame)),
        ("step", step(NodeIx(1)).page(&frame)),
        ("step that is not there", step(NodeIx(99)).page(&frame)),
        ("new project", NewProject { name: s(), repository: s(), trouble: s(), ..NewProject::default() }.page(&frame)),
        ("settings", settings.page(&frame)),
        (
            "trigger",
            Trigger { project: s(), reference: s(), pipelines: vec![s(), s()], trouble: s(), ..Trigger::default() }
                .page(&frame),
        ),
        ("sign in", SignIn { name: s(), next: s(), trouble: s(), elsewhere: Some(s()) }.page(&frame)),
        ("link", LinkPage { kind: LinkKind::SetUp, action: "/setup/x".into(), name: s(), trouble: s() }.page(&frame)),
        ("password", LinkPage { kind: LinkKind::Password(s()), ..LinkPage::default() }.page(&frame)),
        ("secrets", Secrets { project: s(), rights, rows: vec![secret], trouble: s() }.page(&frame)),
        (
            "tokens",
            Tokens { rows: vec![token], scopes: vec![("read".into(), s())], made: Some(s()), trouble: s() }
                .page(&frame),
        ),
        ("users", users.page(&frame)),
        ("agents", Agents { rows: vec![agent], command: Some(s()), trouble: s() }.page(&frame)),
        (
            "deliveries",
            Deliveries { project: s(), rights, hook: s(), rows: vec![delivery], older: Some(3) }.page(&frame),
        ),
        ("audit", audit(&frame, &[AuditLine { at, by: s(), act: s(), about: s() }], Some(3))),
        ("failure", failure::page(&frame, 404, &s(), &s())),
    ]
}

/// The tags of a page as a browser would find them, with what is between `<` and `>` outside of quotes.
fn tags(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let mut quoted = false;
        let end = rest[start..].find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let Some(end) = end else { panic!("a tag that does not end: {}", &rest[start..]) };
        tags.push(rest[start..=start + end].to_owned());
        rest = &rest[start + end..];
    }
    tags
}

#[test]
fn no_page_lets_a_stranger_write_a_tag_an_attribute_or_a_control_character() {
    for (name, html) in all() {
        // What a form sends back is exactly what it was; it stands in quotes and is no text of the page.
        let html: String = html
            .split(" value=\"")
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once('"').expect("quoted").1 })
            .collect();
        assert!(!html.contains(['\x1b', '\x07', '\u{202e}']), "{name}: {html}");
        assert_eq!(html.matches("<script").count(), 1, "{name}: {html}");
        for tag in tags(&html) {
            let bare: String = tag.split('"').step_by(2).collect();
            assert!(!bare.contains(" on") && !bare.contains("<img") && !bare.contains(" style"), "{name}: {tag}");
        }
    }
}

#[test]
fn every_form_that_changes_something_shows_that_it_is_ours() {
    for (name, html) in all() {
        for form in html.split("<form").skip(1).filter(|form| form.starts_with(|c: char| c.is_whitespace())) {
            let form = form.split("</form>").next().unwrap_or_default();
            let head = form.split('>').next().unwrap_or_default();
            assert!(head.contains("method=\"get\"") || form.contains("name=\"csrf\" value=\"c5rf\""), "{name}: {form}");
        }
    }
}

#[test]
fn every_field_has_a_label_and_every_id_is_there_once() {
    for (name, html) in all() {
        let mut ids = std::collections::BTreeSet::new();
        for tag in tags(&html) {
            let attribute = |wanted: &str| {
                tag.split_once(&format!(" {wanted}=\"")).and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned)
            };
            let id = attribute("id");
            if let Some(id) = &id {
                assert!(ids.insert(id.clone()), "{name}: id {id} is there twice");
            }
            let is_field = ["<input", "<select", "<textarea"].iter().any(|start| tag.starts_with(start));
            if is_field && attribute("type").as_deref() != Some("hidden") {
                let id = id.unwrap_or_else(|| panic!("{name}: {tag} has no id"));
                assert!(html.contains(&format!("for=\"{id}\"")), "{name}: no label for {id}");
            }
        }
    }
}

#[test]
fn every_page_has_one_heading_of_the_first_order_and_its_landmarks() {
    for (name, html) in all() {
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        for landmark in ["<main", "<header", "<footer", "<nav", "lang=\"en\"", "class=\"skip\""] {
            assert!(html.contains(landmark), "{name} has no {landmark}");
        }
    }
}

#[test]
fn a_run_that_waits_says_why_and_one_that_ended_can_be_done_again() {
    let (frame, mut scene) = (frame(), scene());
    let rights = Rights { run: true, manage: false };
    let html = |scene: &mut Scene, rights| {
        let summary = RunSummary { project: "web".into(), ..summary(scene) };
        let (approvals, artifacts) = (Vec::new(), Vec::new());
        let page =
            RunPage { summary: &summary, view: scene.view(), rights, approvals, held: None, artifacts, all: false };
        page.page(&frame)
    };
    scene.waits(&[("ship", "waits for `test` (2 of 3 done)")]);
    let running = html(&mut scene, rights);
    assert!(
        running.contains("waits for `test` (2 of 3 done)") && running.contains("/p/web/-/runs/12/cancel"),
        "{running}"
    );
    assert!(running.contains("data-live=\"/p/web/-/runs/12/live\""), "{running}");
    scene.ends(model::RunOutcome::Failed);
    let ended = html(&mut scene, rights);
    assert!(
        ended.contains("/again?which=failed") && !ended.contains("/cancel") && !ended.contains("data-live"),
        "{ended}"
    );
    assert!(!html(&mut scene, Rights::default()).contains("/again"), "a visitor who may only read sees no button");
    assert_eq!(RunNumber(12), scene.view().number());
}
