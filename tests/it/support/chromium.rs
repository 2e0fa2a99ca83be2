//! A real Chromium, driven by WebDriver as a person's hands and eyes: it follows links, presses keys, and tells what
//! the console said and what axe finds. All of its processes end with the test, however that ends.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    axe, seconds,
    versions::ALL_VERSIONS,
    webdriver::{ENTER, Session, TAB},
};

/// Ends the driver and every browser of this folder when the pipe to this shell ends, and removes the folder. Others
/// have folders of their own.
const LIFELINE: &str = r#"trap '' INT TERM HUP
read -r _
kill -KILL "$1" 2>/dev/null
for process in /proc/[0-9]*; do
    [ "$process" = "/proc/$$" ] && continue
    tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF -- "--user-data-dir=$2/" && kill -KILL "${process#/proc/}"
done
rm -rf -- "$2""#;

/// What the browser is started with: nothing but pages, and asks nobody for anything by itself.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// How wide a phone and a desk are.
pub(crate) const WIDTHS: [u32; 2] = [360, 1280];

/// The driver, from which windows are opened.
pub(crate) struct Chromium {
    driver: Child,
    lifeline: Child,
    folder: TempDir,
    browser: PathBuf,
    url: String,
    windows: AtomicU32,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The end of the pipe: the shell ends what is left.
        drop(self.lifeline.stdin.take());
        let _ = self.lifeline.wait();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Chromium {
    /// Starts the driver; none where there is no Chromium, which is told.
    pub(crate) async fn start() -> Option<Self> {
        let browser =
            ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| on_path(name));
        let (Some(browser), Some(driver)) = (browser, on_path("chromedriver")) else {
            assert!(
                std::env::var_os(ALL_VERSIONS).is_none(),
                "{ALL_VERSIONS} is set, and there is no chromium or no chromedriver"
            );
            let said =
                "no chromium or no chromedriver: the tests of pages in a browser are left out\n";
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return None;
        };
        Some(tokio::task::spawn_blocking(move || Self::run(browser, &driver)).await.unwrap())
    }

    fn run(browser: PathBuf, program: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("pgvalet-it-").tempdir().unwrap();
        // Whatever it keeps, it keeps there.
        let mut driver = Command::new(program)
            .arg("--port=0")
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env("XDG_CACHE_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lifeline = Command::new("/bin/sh")
            .args(["-c", LIFELINE, "lifeline", &driver.id().to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let port = line.split_once("successfully on port ")?.1.trim_end_matches('.');
            port.parse::<u16>().ok()
        });
        let url = format!("http://127.0.0.1:{}", port.expect("the driver says its port"));
        // What else it says goes nowhere, and must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { driver, lifeline, folder, browser, url, windows: AtomicU32::new(0) }
    }

    /// A browser of its own: nothing is shared with the others.
    pub(crate) async fn window(&self, base: &str) -> Window {
        let number = self.windows.fetch_add(1, Ordering::Relaxed);
        let data = self.folder.path().join(format!("window{number}"));
        let mut flags = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", data.display()));
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": self.browser, "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let driver = Session::open(&self.url, wanted).await;
        let window = Window { driver, base: base.to_owned() };
        window.look(1280, false).await;
        window
    }
}

/// One browser.
pub(crate) struct Window {
    pub(crate) driver: Session,
    base: String,
}

impl Window {
    /// Opens a page, by its path or by its whole address.
    pub(crate) async fn open(&self, path: &str) {
        let whole = path.starts_with("http");
        let url = if whole { path.to_owned() } else { format!("{}{path}", self.base) };
        self.driver.post("/url", json!({ "url": url })).await;
    }

    /// Loads the page again; a form that made it is sent again.
    pub(crate) async fn reload(&self) {
        self.driver.post("/refresh", json!({})).await;
    }

    /// Where it is, without the part that all pages share.
    pub(crate) async fn path(&self) -> String {
        let url = self.driver.get("/url").await;
        let url = url.as_str().unwrap();
        url.strip_prefix(&self.base).unwrap_or(url).to_owned()
    }

    /// The page's HTML.
    pub(crate) async fn source(&self) -> String {
        self.driver.get("/source").await.as_str().unwrap().to_owned()
    }

    /// The text that somebody reads.
    pub(crate) async fn text(&self) -> String {
        let text = self.driver.script("return document.body ? document.body.innerText : ''").await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the page says this.
    pub(crate) async fn says(&self, words: &str) {
        let (began, mut seen) = (Instant::now(), String::new());
        while began.elapsed() < seconds(20) {
            seen = self.text().await;
            if seen.contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within 20 s: {} says `{words}`; it says:\n{seen}", self.path().await);
    }

    /// Presses the button, or follows the link, with these words.
    pub(crate) async fn press(&self, words: &str) {
        let found = self.driver.find(&with_words(words)).await;
        let [one] = found.as_slice() else { panic!("{} of `{words}` are there", found.len()) };
        self.driver.click(one).await;
    }

    /// Is there a button or link with these words?
    pub(crate) async fn has(&self, words: &str) -> bool {
        !self.driver.find(&with_words(words)).await.is_empty()
    }

    /// Writes into the field of this id.
    pub(crate) async fn fill(&self, id: &str, text: &str) {
        let found = self.driver.find(&format!("//*[@id='{id}']")).await;
        let [field] = found.as_slice() else { panic!("{} of `{id}` are there", found.len()) };
        self.driver.write(field, text).await;
    }

    /// Goes by the tabulator until what has the focus has these words, and presses Enter. That is all that somebody
    /// without a mouse can do.
    pub(crate) async fn by_keyboard(&self, words: &str) {
        let script = "const it = document.activeElement;
            return [it.textContent.trim(), it.matches(':focus-visible')]";
        for _ in 0..60 {
            self.driver.key(TAB).await;
            let focused = self.driver.script(script).await;
            if focused[0] == words {
                assert_eq!(focused[1], true, "nobody sees that `{words}` has the focus");
                self.driver.key(ENTER).await;
                return;
            }
        }
        panic!("the tabulator never comes to `{words}` on {}", self.path().await);
    }

    /// How wide it is, and which scheme its owner likes.
    pub(crate) async fn look(&self, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let size =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.driver.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.driver.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// What is wrong with the page as it is now, for whoever uses it by other means or on a phone; and what the
    /// console said since it was last looked at. In both schemes and widths.
    pub(crate) async fn faults(&self, name: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for width in WIDTHS {
            for dark in [false, true] {
                self.look(width, dark).await;
                let scheme = if dark { "dark" } else { "light" };
                let place = format!("{name} {width} {scheme}");
                let wide = self.driver.script("return document.documentElement.scrollWidth").await;
                if wide.as_u64().unwrap() > u64::from(width) {
                    faults.push(format!("{place}: it is {wide} wide"));
                }
                for violation in axe::violations(self).await {
                    faults.push(format!("{place}: {violation}"));
                }
                self.keep_picture(&format!("{name}-{width}-{scheme}")).await;
            }
        }
        self.look(1280, false).await;
        let mut said = self.driver.console().await;
        said.retain(|line| !self.is_known(line));
        faults.extend(said.iter().map(|line| format!("{name}: the console says {line}")));
        faults
    }

    /// Is it no news that the console says this? Pages of other origins are not ours; and that a page is one of
    /// failure is what the test asked for. A style that is not there has a name with a dot.
    fn is_known(&self, line: &str) -> bool {
        let Some((_, of_ours)) = line.split_once(&self.base) else {
            return line.contains("http://");
        };
        let (path, said) = of_ours.split_once(' ').unwrap_or((of_ours, ""));
        said.contains("the server responded with a status of 4") && !path.contains('.')
    }

    /// Keeps a picture of the whole page, if somebody said where.
    async fn keep_picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("PGVALET_TEST_PICTURES") else { return };
        fs::create_dir_all(&folder).unwrap();
        let height = self.driver.script("return document.documentElement.scrollHeight").await;
        let width = self.driver.script("return window.innerWidth").await;
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let wanted = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken = self.driver.devtools("Page.captureScreenshot", wanted).await;
        let png = base64_of(taken["data"].as_str().unwrap());
        fs::write(PathBuf::from(folder).join(format!("{name}.png")), png).unwrap();
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.driver.close().await;
    }

    /// Signs in at the playground's provider.
    pub(crate) async fn sign_in(&self, person: &str) {
        self.open("/sign-in").await;
        self.press(person).await;
        self.says(&format!("You are person:{person}")).await;
    }

    /// The cookie of its session.
    pub(crate) async fn session(&self) -> String {
        let cookie = self.driver.get("/cookie/pgvalet").await;
        cookie["value"].as_str().unwrap().to_owned()
    }
}

/// Buttons and links with these words.
fn with_words(words: &str) -> String {
    format!("//*[self::button or self::a][normalize-space()='{words}']")
}

/// A program on the path.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
