//! The HTTP endpoint of the metrics: `/metrics`, `/healthz`, `/readyz` and a page that lists them.
//!
//! One thread of its own, bounded in every direction: connections, bytes of a request, and time. It makes no claim
//! about who is asking; an address other than loopback belongs behind the operator's own proxy.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TEXT_FORMAT;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::Metrics;

/// Connections at one time. One more takes the place of the oldest, so that stuck clients cannot lock a new one out.
pub const MAX_CONNECTIONS: usize = 16;
/// A client has this long to send its request.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(1);
/// And this long in all, until it has taken the answer.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(3);
/// Longest request line and headers together, in bytes.
pub const MAX_REQUEST: usize = 8192;
/// After an accept that failed (no file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error(
        "cannot serve metrics at {address}: {source}; set another address with --metrics or in [metrics] listen, or \"off\""
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The thread or its event loop cannot be made.
    #[error("cannot start the metrics thread: {0}; check the limits on threads and open files")]
    Thread(std::io::Error),
}

/// A bound address that nobody answers at yet.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds `address`. Port 0 takes any free port.
    pub fn new(address: SocketAddr) -> Result<Self, ServeError> {
        let bind = |source| ServeError::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address })
    }

    /// Serves `metrics` there from a thread of its own.
    pub fn serve(self, metrics: Metrics) -> Result<Server, ServeError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(self.listener).map_err(ServeError::Thread)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("l4sd-metrics".into())
            .spawn(move || {
                runtime.spawn(accept(listener, metrics));
                // An error means that the sender is gone, which is as good a reason to stop.
                let _ = runtime.block_on(stopped);
            })
            .map_err(ServeError::Thread)?;
        Ok(Server { address: self.address, stop: Some(stop), thread: Some(thread) })
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// A running endpoint. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `address` and serves `metrics` there at once.
    pub fn start(address: SocketAddr, metrics: Metrics) -> Result<Self, ServeError> {
        Bound::new(address)?.serve(metrics)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection, and waits for the thread to end.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by its own thread and ends nothing here.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let mut open: VecDeque<tokio::task::JoinHandle<()>> = VecDeque::with_capacity(MAX_CONNECTIONS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            let _ = oldest.await;
        }
        let connection = serve(stream, metrics.clone());
        open.push_back(tokio::spawn(async move {
            // Past the deadline the connection is dropped, which closes it.
            let _ = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
        }));
    }
}

async fn serve(stream: TcpStream, metrics: Metrics) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    // An error here is the client's: it went away, or sent what is not HTTP and has been told so.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_DEADLINE)
        .max_buf_size(MAX_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

const PAGE: &str = "<!doctype html><title>l4sd</title><h1>l4sd</h1><ul><li><a href=/metrics>/metrics</a> for Prometheus\
<li><a href=/healthz>/healthz</a> the process is alive<li><a href=/readyz>/readyz</a> frames are being forwarded</ul>\n";

fn answer(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = if *method != Method::GET && *method != Method::HEAD {
        (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned())
    } else {
        match path {
            "/metrics" => (StatusCode::OK, TEXT_FORMAT, metrics.render()),
            "/healthz" => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
            "/readyz" if metrics.is_ready() => (StatusCode::OK, PLAIN, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not forwarding\n".to_owned()),
            "/" => (StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
            _ => (StatusCode::NOT_FOUND, PLAIN, "there is /metrics, /healthz and /readyz\n".to_owned()),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
