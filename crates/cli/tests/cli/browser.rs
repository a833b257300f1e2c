//! The HTML report in a real Chromium, through its debugging pipe (the DevTools protocol).

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Folder, repository};

/// Names under which a system has it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Only a guard against waiting for ever.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Text that would run, or load something, wherever it were taken for markup.
const HOSTILE: &str = "</title></style></svg></pre><script>document.title='run'</script>\
    <img src=http://example.invalid/a onerror=\"document.title='run'\"> \
    [a](javascript:alert) ![b](http://example.invalid/b.png) \" ' ` | & &lt;i&gt; \
    <style>@import 'http://example.invalid/c'</style>";

/// What the page is like, as the browser sees it.
const PROBE: &str = r#"(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const box = element => element.getBoundingClientRect();
  return {
    title: document.title,
    heading: document.querySelector('h1').textContent,
    language: document.documentElement.lang,
    page_width: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
    foreign: all('script, img, iframe, object, embed, link, form, input, base, image, use, foreignObject')
      .map(it => it.outerHTML),
    handlers: all('*').flatMap(it => it.getAttributeNames()).filter(it => it.startsWith('on')),
    out: all('a').map(it => it.getAttribute('href')).filter(it => !it.startsWith('#')),
    broken: all('a').map(it => it.getAttribute('href')).filter(it => !document.getElementById(it.slice(1))),
    charts: all('svg').length,
    unnamed: all('svg').filter(it => !it.getAttribute('aria-label')).length,
    chart_width: Math.max(...all('svg').map(it => box(it).right)),
    smallest_text: Math.min(...all('svg text').map(it => {
      const svg = it.ownerSVGElement;
      return parseFloat(getComputedStyle(it).fontSize) * box(svg).width / svg.viewBox.baseVal.width;
    })),
    tables: all('table').length,
    boxed: all('div.table > table').length,
    texts: all('pre').map(it => it.textContent),
  };
})()"#;

#[test]
fn the_html_report_in_a_browser() {
    let Some(mut browser) = Browser::start() else {
        // Past the capture of a test's output, so that it is seen.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: the HTML report was opened in no browser: none of {} is installed (on \
             Debian: apt-get install chromium)",
            NAMES.join(", ")
        );
        return;
    };
    let folder = Folder::with("record.jsonl", hostile_record());
    folder.ok("report . --format html");
    let charts = folder.read("report.md").matches("\n![").count();
    let url = format!("file://{}", folder.path("report.html").display());

    let mut backgrounds = Vec::new();
    for (width, scheme) in [
        (390, "light"),
        (390, "dark"),
        (1280, "light"),
        (1280, "dark"),
    ] {
        let page = browser.open(&url, width, scheme);
        let name = format!("{width} px, {scheme}");
        let probe = &page.probe;
        assert_eq!(page.requests, [url.as_str()], "{name}");
        assert_eq!(page.complaints, [""; 0], "{name}");

        assert_eq!(
            probe["page_width"], width,
            "{name}: the page scrolls sideways"
        );
        assert!(
            probe["chart_width"].as_f64() <= Some(f64::from(width)),
            "{name}: {probe}"
        );
        assert!(
            probe["smallest_text"].as_f64() >= Some(9.0),
            "{name}: {probe}"
        );
        for nothing in ["foreign", "handlers", "out", "broken"] {
            assert_eq!(probe[nothing], json!([]), "{name}: {nothing}");
        }
        assert_eq!(probe["charts"], charts, "{name}");
        assert_eq!(probe["unnamed"], 0, "{name}");
        assert_eq!(probe["tables"], probe["boxed"], "{name}");
        assert_eq!(probe["language"], "en", "{name}");

        // A script would have changed the title.
        assert_eq!(probe["title"], probe["heading"], "{name}");
        let title = probe["title"].as_str().unwrap();
        assert!(title.contains(&HOSTILE[..20]), "{name}: {title}");
        let texts = probe["texts"].as_array().unwrap();
        let whole = texts
            .iter()
            .filter(|it| it.as_str().unwrap().trim_end() == HOSTILE);
        assert!(whole.count() >= 2, "{name}: {texts:?}");
        backgrounds.push(probe["background"].clone());

        // Not even a script in the page would run.
        let title = browser.evaluate(
            "{ const it = document.createElement('script'); it.textContent = \
             \"document.title = 'run'\"; document.body.append(it); } document.title",
        );
        assert_eq!(title, probe["title"], "{name}");
    }
    assert_eq!(backgrounds[..2], backgrounds[2..]);
    assert_ne!(backgrounds[0], backgrounds[1]);
}

/// The committed record with hostile text wherever it has text from outside.
fn hostile_record() -> String {
    let whole = std::fs::read_to_string(repository("fixtures/records/h200-lfm2-1.2b/record.jsonl"))
        .unwrap();
    let mut lines = Vec::new();
    for line in whole.lines() {
        let mut event: Value = serde_json::from_str(line).unwrap();
        for place in [
            "/run_id",
            "/model/name",
            "/mlx/device_name",
            "/machine/cpu",
            "/data/name",
            "/prompt",
            "/text",
        ] {
            if let Some(text) = event.pointer_mut(place) {
                *text = HOSTILE.into();
            }
        }
        lines.push(event.to_string());
    }
    lines.join("\n") + "\n"
}

/// A page that was opened.
struct Page {
    probe: Value,
    /// Every address that was asked for.
    requests: Vec<String>,
    /// Messages of the console, of the security policy, and of exceptions.
    complaints: Vec<String>,
}

struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Value,
    last_id: u64,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` where there is none on this system.
    fn start() -> Option<Self> {
        let installed = |name: &&str| {
            let found = Command::new("sh")
                .args(["-c", "command -v \"$0\"", name])
                .output();
            found.is_ok_and(|found| found.status.success())
        };
        let name = NAMES.into_iter().find(installed)?;
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            // The pipe is on descriptors 3 and 4.
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null",
                name,
            ])
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                // As on a phone, where they take no width.
                "--hide-scrollbars",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-dev-shm-usage",
            ])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (send, from) = mpsc::channel();
        thread::spawn(move || {
            loop {
                let mut message = Vec::new();
                match output.read_until(0, &mut message) {
                    Ok(1..) => {}
                    _ => return,
                }
                message.pop();
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            session: Value::Null,
            last_id: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].clone();
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Opens an address in a window of this width, for a system with this colour scheme.
    fn open(&mut self, url: &str, width: u32, scheme: &str) -> Page {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": scheme }));
        self.events.clear();
        self.call("Page.navigate", json!({ "url": url }));
        while !self
            .events
            .iter()
            .any(|it| it["method"] == "Page.loadEventFired")
        {
            let event = self.receive();
            self.events.push(event);
        }
        let probe = self.evaluate(PROBE);
        let of = |methods: &[&str]| -> Vec<&Value> {
            let method = |it: &&Value| {
                it["method"]
                    .as_str()
                    .is_some_and(|it| methods.contains(&it))
            };
            self.events.iter().filter(method).collect()
        };
        Page {
            probe,
            requests: of(&["Network.requestWillBeSent"])
                .iter()
                .map(|it| it["params"]["request"]["url"].as_str().unwrap().to_owned())
                .collect(),
            complaints: of(&[
                "Log.entryAdded",
                "Runtime.consoleAPICalled",
                "Runtime.exceptionThrown",
            ])
            .iter()
            .map(ToString::to_string)
            .collect(),
        }
    }

    /// The value of an expression in the page.
    fn evaluate(&mut self, expression: &str) -> Value {
        let expression = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", expression);
        assert!(result.get("exceptionDetails").is_none(), "{result}");
        result["result"]["value"].clone()
    }

    /// Sends a command, and gives its result.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        loop {
            let answer = self.receive();
            if answer["id"] == self.last_id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn receive(&mut self) -> Value {
        let received = self.from.recv_timeout(GIVE_UP);
        received.expect("the browser answers")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
