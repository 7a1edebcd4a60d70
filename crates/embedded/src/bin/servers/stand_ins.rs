//! What else tests can be held against: a Docker engine, something that speaks like AWS, something that knows Coolify's API.
//!
//! None of it is needed to run the rest. What is missing is said, with the reason and how to get it, so that the tests that
//! need it can be left out and be called skipped. Those tests are in test binaries of a name: `engine`, `moto`, `prism`, `disk`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use greenroom_embedded::{Docker, DockerClient, Error, tools_folder};

/// The image for tests of containers: a shell and its friends, nothing else. The name changes with what is in it.
const IMAGE: &str = "greenroom-test:busybox-1";
const IMAGE_FILE: &str = "FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
RUN mkdir -m 1777 /tmp && mkdir -p /etc && echo root:x:0:0::/:/bin/sh >/etc/passwd && echo root:x:0: >/etc/group
CMD [\"sh\"]
";

/// What was found or started. [`StandIns::stop`] ends it in good order, a drop ends it too.
#[derive(Debug, Default)]
pub struct StandIns {
    engine: Option<Docker>,
    environment: Vec<(&'static str, OsString)>,
    skipped: Vec<String>,
}

impl StandIns {
    /// Looks for them, and starts what has to run; `folder` is for what is thrown away.
    pub async fn find(folder: &Path) -> Self {
        let mut found = Self::default();
        let given = "set GREENROOM_TEST_DOCKER_HOST to an engine that you may use";
        if let Err(error) = found.docker(folder).await {
            match &error {
                Error::NoEngine { why, remedy } => {
                    found.skip("engine", "tests with Docker", why, &format!("{remedy}, or {given}"));
                }
                error => found.skip("engine", "tests with Docker", &said(error), given),
            }
        }
        if let Err(Error::NoEngine { why, remedy }) = Docker::possible() {
            found.skip("dockerd", "tests of engines of our own", &why, &remedy);
        }
        found.moto();
        found.prism();
        found.disk(folder);
        found
    }

    /// What tests find in their environment.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, OsString)> + '_ {
        let skipped = ("GREENROOM_TEST_SKIPPED", OsString::from(self.skipped.join("\n")));
        self.environment.iter().cloned().chain([skipped])
    }

    /// Ends what was started.
    pub async fn stop(mut self) {
        if let Some(engine) = &mut self.engine
            && let Err(error) = engine.stop().await
        {
            eprintln!("error: {error}");
        }
    }

    fn skip(&mut self, binary: &str, what: &str, why: &str, remedy: &str) {
        // A line each, however much a program had to say.
        let line = |words: &str| words.split_whitespace().collect::<Vec<_>>().join(" ");
        self.skipped.push(format!("{binary}: {what}: {}: {}", line(why), line(remedy)));
    }

    async fn docker(&mut self, folder: &Path) -> Result<(), Error> {
        let client = match set("GREENROOM_TEST_DOCKER_HOST") {
            Some(host) => DockerClient::to(host.to_string_lossy())?,
            None => {
                let engine = start_engine(folder).await?;
                let client = engine.client().clone();
                self.engine = Some(engine);
                client
            }
        };
        let image = match set("GREENROOM_TEST_DOCKER_IMAGE") {
            Some(image) => image.to_string_lossy().into_owned(),
            None => make_image(&client, &folder.join("image")).await?,
        };
        let id = client.ask(["image", "inspect", "--format", "{{.Id}}", &image]).await?;
        self.environment.push(("GREENROOM_TEST_DOCKER_HOST", client.host().into()));
        self.environment.push(("GREENROOM_TEST_DOCKER_IMAGE", image.into()));
        self.environment.push(("GREENROOM_TEST_DOCKER_IMAGE_ID", id.into()));
        Ok(())
    }

    /// A disk that can be filled without harm to the machine's own.
    fn disk(&mut self, folder: &Path) {
        let place = folder.join("disk");
        let _ = fs::create_dir(&place);
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "greenroom-test"]).arg(&place).output();
        match mount {
            Ok(output) if output.status.success() => {
                let _ = Command::new("umount").arg(&place).output();
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                self.skip("disk", "tests with a full disk", &why, "run them as root, where mounting is allowed");
            }
            Err(error) => {
                self.skip("disk", "tests with a full disk", &format!("mount: {error}"), "install util-linux");
            }
        }
    }

    fn moto(&mut self) {
        match installed("GREENROOM_TEST_MOTO", "moto/bin/moto_server") {
            Some(program) => self.environment.push(("GREENROOM_TEST_MOTO", program.into())),
            None => self.skip("moto", "tests with an AWS of ours", "moto is not installed", "./dev test installs it"),
        }
    }

    fn prism(&mut self) {
        let (what, remedy) = ("tests with Coolify's own document", "./dev test installs it where there is npm");
        let Some(document) = document() else {
            let why = "there is no document";
            return self.skip("prism", what, why, "set COOLIFY_OPENAPI to Coolify's openapi.yaml");
        };
        self.environment.push(("COOLIFY_OPENAPI", document.into()));
        match installed("GREENROOM_TEST_PRISM", "prism/prism") {
            Some(program) => self.environment.push(("GREENROOM_TEST_PRISM", program.into())),
            None => self.skip("prism", what, "Prism is not installed", remedy),
        }
    }
}

/// One whose images are kept for the next run. While another run has that, one that is thrown away: it makes its images again.
async fn start_engine(folder: &Path) -> Result<Docker, Error> {
    if let Some(tools) = tools_folder() {
        match Docker::start(tools.join("docker")).await {
            Err(Error::InUse { .. }) => {}
            started => return started,
        }
    }
    Docker::start(folder.join("docker")).await
}

/// Makes the image unless it is there.
async fn make_image(client: &DockerClient, context: &Path) -> Result<String, Error> {
    let found = client.ask(["images", "--quiet", IMAGE]).await?;
    if found.is_empty() {
        let busybox = tools_folder().map(|tools| tools.join("busybox/bin/busybox")).filter(|program| program.is_file());
        let busybox = busybox.unwrap_or_else(|| PathBuf::from("/bin/busybox"));
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing, path, source }
        };
        fs::create_dir_all(context).map_err(io("create", context))?;
        fs::copy(&busybox, context.join("busybox")).map_err(io("copy", &busybox))?;
        fs::write(context.join("Dockerfile"), IMAGE_FILE).map_err(io("write", context))?;
        let context = context.display().to_string();
        client.ask(["build", "--quiet", "--network", "none", "--tag", IMAGE, &context]).await?;
    }
    Ok(IMAGE.to_owned())
}

/// Coolify's description of its API: not ours to carry, so it is where somebody put it.
fn document() -> Option<PathBuf> {
    let document =
        set("COOLIFY_OPENAPI").map_or_else(|| PathBuf::from("../shared/coolify-openapi.yaml"), PathBuf::from);
    fs::canonicalize(document).ok().filter(|document| document.is_file())
}

fn installed(variable: &str, below_tools: &str) -> Option<PathBuf> {
    let given = set(variable).map(PathBuf::from);
    let found = given.or_else(|| tools_folder().map(|tools| tools.join(below_tools)));
    found.filter(|program| program.is_file())
}

fn set(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

/// An error with its causes, in one line. Of a server's log the last line has the reason, as a rule.
fn said(error: &Error) -> String {
    if let Error::Died { name, tail, .. } | Error::NotReady { name, tail, .. } = error {
        return format!("{name} does not run here: {}", tail.lines().next_back().unwrap_or("it does not say why"));
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
