//! The images of `deploy/docker`, built and run on a real engine. Left out, and called skipped, where there is none
//! (`greenroom-servers` says why).

mod images;
