//! Signing in elsewhere: the real server, a real issuer (`dev/tools.sh oidc-provider`), and `curl` as the browser.

#[allow(dead_code)]
mod support;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use support::Repo;

const PIPELINE: &str = "name: web\nsteps: [{ id: build, cmd: echo hello }]\n";
const CALLBACK: &str = "/sign-in/oidc/callback";

/// An issuer, a server that trusts it, and browsers.
struct Scene {
    repo: Repo,
    url: String,
    issuer: String,
    /// Both end with the scene.
    children: [Child; 2],
    _issuer_input: ChildStdin,
}

/// What a browser sees in the end.
struct Seen {
    status: u16,
    address: String,
    html: String,
}

impl Scene {
    /// Starts both; `None` where the issuer cannot be had, which is a failure where everything must be there.
    fn begin() -> Option<Scene> {
        let modules = match tool() {
            Ok(modules) => modules,
            Err(why) if std::env::var_os("CI").is_some() => panic!("{why}"),
            Err(why) => {
                eprintln!("not tested: {why}");
                return None;
            }
        };
        let (issuing, mut input, mut said) = issuer(&modules);
        let issuer = line(&mut said);
        let repo = Repo::new(PIPELINE);
        let (server, url) = server(&repo, &issuer);
        writeln!(input, "{url}{CALLBACK}").expect("it reads");
        assert_eq!(line(&mut said), "ready");
        std::thread::spawn(move || said.for_each(drop));
        Some(Scene { repo, url, issuer, children: [server, issuing], _issuer_input: input })
    }

    /// A page in a browser, which keeps cookies and follows redirects; with a form it sends that.
    fn visit(&self, browser: &str, address: &str, form: &[(&str, &str)]) -> Seen {
        let (jar, body) = (self.file(&format!("{browser}.cookies")), self.file("body"));
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--location",
            "--max-redirs",
            "20",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ]);
        command.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar).arg("--output").arg(&body);
        command.args(["--write-out", "%{http_code} %{url_effective}"]);
        for (name, value) in form {
            command.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let ended = command.arg(address).output().expect("curl starts");
        assert!(ended.status.success(), "{address}: {}", String::from_utf8_lossy(&ended.stderr));
        let told = String::from_utf8(ended.stdout).expect("text");
        let (status, address) = told.split_once(' ').expect("two words");
        let html = std::fs::read_to_string(&body).unwrap_or_default();
        Seen { status: status.parse().expect("a status"), address: address.to_owned(), html }
    }

    /// Presses the button, says who one is there, and agrees.
    fn sign_in(&self, browser: &str, who: &str) -> Seen {
        let asked = self.visit(browser, &format!("{}/sign-in/oidc?next=%2F%3Fstate%3Dall", self.url), &[]);
        assert!(asked.address.starts_with(&self.issuer), "{}: {}", asked.address, asked.html);
        let form = action(&asked.html);
        let agreed = self.visit(browser, &form, &[("prompt", "login"), ("login", who), ("password", "anything")]);
        self.visit(browser, &action(&agreed.html), &[("prompt", "consent")])
    }

    fn file(&self, name: &str) -> PathBuf {
        self.repo.folder.path().join(name)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The folder of the issuer's modules, or why there is none.
fn tool() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/tools.sh");
    let ended = Command::new(script).arg("oidc-provider").output().map_err(|error| error.to_string())?;
    match ended.status.success() {
        true => Ok(String::from_utf8_lossy(&ended.stdout).trim().into()),
        false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
    }
}

fn issuer(modules: &Path) -> (Child, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/server_oidc/issuer.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(modules).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("node starts");
    let (input, output) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
    (child, input, BufReader::new(output).lines())
}

fn server(repo: &Repo, issuer: &str) -> (Child, String) {
    let mut command = repo.command(&["server", "--listen", "127.0.0.1:0", "--no-agent"]);
    command.arg("--project").arg(format!("web={}", repo.root().display()));
    command.arg("--data").arg(repo.folder.path().join("data"));
    command.args(["--oidc-issuer", issuer, "--oidc-client-id", "pace", "--oidc-client-secret-env", "THE_SECRET"]);
    command.args(["--oidc-admin-group", "root", "--oidc-group", "dev=developer", "--oidc-domain", "example.com"]);
    command.env("THE_SECRET", "the secret of pace").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("pace starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let url = loop {
        if let Some((_, address)) = line(&mut lines).split_once(" on http://") {
            break format!("http://{address}");
        }
    };
    // Whatever else it says must not fill a pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, url)
}

fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    lines.next().expect("it says where it is").expect("text")
}

/// Where the first form of a page goes.
fn action(html: &str) -> String {
    let rest = html.split_once("action=\"").unwrap_or_else(|| panic!("no form in {html}")).1;
    rest.split('"').next().expect("an address").replace("&amp;", "&")
}

#[test]
fn people_sign_in_elsewhere_and_are_what_their_groups_and_addresses_say() {
    let Some(scene) = Scene::begin() else { return };
    let page = scene.visit("anna", &format!("{}/sign-in", scene.url), &[]);
    assert!(
        page.html.contains("href=\"/sign-in/oidc") && page.html.contains("Sign in with 127.0.0.1"),
        "{}",
        page.html
    );

    let first = scene.sign_in("anna", "anna");
    assert_eq!((first.status, first.address), (200, format!("{}/?state=all", scene.url)), "{}", first.html);
    assert!(first.html.contains("/p/web"), "she sees the project: {}", first.html);
    let users = scene.visit("anna", &format!("{}/users", scene.url), &[]);
    assert_eq!(users.status, 200, "her group administers: {}", users.html);
    let jar = std::fs::read_to_string(scene.file("anna.cookies")).expect("cookies");
    let session = jar.lines().find(|line| line.contains("pace_session")).expect("a session");
    assert!(session.starts_with("#HttpOnly_"), "{session}");

    let domain = scene.sign_in("bo", "bo");
    assert_eq!(domain.status, 200, "his address lets him in: {}", domain.html);
    assert!(!domain.html.contains("/p/web"), "but gives him no role: {}", domain.html);
    assert_eq!(scene.visit("bo", &format!("{}/users", scene.url), &[]).status, 403);

    let stranger = scene.sign_in("eve", "eve");
    assert_eq!(stranger.status, 403, "nobody knows that it is her address: {}", stranger.html);
    assert!(stranger.html.contains("may sign in here") && stranger.address.contains(CALLBACK));

    let again = scene.sign_in("anna-elsewhere", "anna");
    assert_eq!(again.status, 200, "the same person in another browser: {}", again.html);
}

#[test]
fn a_sign_in_of_another_browser_or_with_another_state_is_refused() {
    let Some(scene) = Scene::begin() else { return };
    let callback = |rest: &str| format!("{}{CALLBACK}?{rest}", scene.url);
    let strange = scene.visit("nobody", &callback("state=a&code=b"), &[]);
    assert!(strange.status == 400 && strange.html.contains("not begun in this browser"), "{}", strange.html);

    // Begun, and then sent a link with somebody else's code.
    scene.visit("victim", &format!("{}/sign-in/oidc", scene.url), &[]);
    let lured = scene.visit("victim", &callback("state=a&code=b"), &[]);
    assert!(lured.status == 400 && lured.html.contains("not begun in this browser"), "{}", lured.html);
    let jar = std::fs::read_to_string(scene.file("victim.cookies")).expect("cookies");
    assert!(!jar.contains("pace_session"), "{jar}");
}

#[test]
fn who_has_a_name_already_is_never_become_by_signing_in_elsewhere() {
    let Some(scene) = Scene::begin() else { return };
    let root = scene.sign_in("anna", "anna");
    assert_eq!(root.status, 200, "{}", root.html);
    let users = scene.visit("anna", &format!("{}/users", scene.url), &[]).html;
    let token = users.split_once("name=\"csrf\" value=\"").expect("a form").1.split('"').next().expect("a token");
    let fields = [("csrf", token), ("name", "bo"), ("password", "correct horse battery")];
    let made = scene.visit("anna", &format!("{}/users", scene.url), &fields);
    assert!(made.status == 200 && made.html.contains(">bo<"), "{}", made.html);
    let taken = scene.sign_in("bo", "bo");
    assert!(
        taken.status == 409 && taken.html.contains("has the name `bo` already"),
        "{}: {}",
        taken.status,
        taken.html
    );
}
