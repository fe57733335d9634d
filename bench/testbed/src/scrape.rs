//! Reads `/metrics`: one plain HTTP/1.0 request and the Prometheus text format, as much of it as l4sd writes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(2);
const BODY_LIMIT: u64 = 4 << 20;

/// One sample line.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Everything one scrape returned.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    samples: Vec<Sample>,
}

/// GETs `path`; returns the status code and the body.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(BODY_LIMIT).read_to_string(&mut answer)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    Ok((status, body.to_owned()))
}

impl Samples {
    /// Reads the text format; lines that are not samples are skipped.
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(sample).collect() }
    }

    /// Sum over all samples of that name that carry all of `labels`; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self
            .samples
            .iter()
            .filter(|s| s.name == name)
            .filter(|s| labels.iter().all(|(k, v)| s.labels.iter().any(|(sk, sv)| sk == k && sv == v)))
            .map(|s| s.value)
            .peekable();
        matching.peek()?;
        Some(matching.sum())
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = match line.find('}') {
        Some(end) => line.split_at(end + 1),
        None => line.split_at(line.find(' ')?),
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    let (name, inner) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    let labels = inner.split(',').filter(|l| !l.is_empty()).map(label).collect::<Option<_>>()?;
    Some(Sample { name: name.trim().to_owned(), labels, value })
}

fn label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
    Some((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TEXT: &str = "# HELP l4sd_probability Probabilities.\n\
        # TYPE l4sd_probability gauge\n\
        l4sd_probability{direction=\"left_to_right\",kind=\"base\"} 0.0243\n\
        l4sd_dropped_packets_total{cause=\"aqm\",direction=\"left_to_right\",ecn=\"ect\",queue=\"l\"} 3\n\
        l4sd_dropped_packets_total{cause=\"tail\",direction=\"left_to_right\",ecn=\"ect\",queue=\"l\"} 4\n\
        l4sd_dropped_packets_total{cause=\"tail\",direction=\"left_to_right\",ecn=\"ect\",queue=\"c\"} 50\n\
        up 1\n\
        garbage\n";

    #[test]
    fn sums_what_the_labels_select() {
        let s = Samples::parse(TEXT);
        let base = s.sum("l4sd_probability", &[("direction", "left_to_right"), ("kind", "base")]);
        assert_eq!(base, Some(0.0243));
        assert_eq!(s.sum("l4sd_dropped_packets_total", &[("queue", "l")]), Some(7.0));
        assert_eq!(s.sum("l4sd_dropped_packets_total", &[("queue", "l"), ("cause", "tail")]), Some(4.0));
        assert_eq!(s.sum("l4sd_dropped_packets_total", &[]), Some(57.0));
        assert_eq!(s.sum("up", &[]), Some(1.0));
        assert_eq!(s.sum("up", &[("queue", "l")]), None);
    }

    #[test]
    fn gets_status_and_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = [0_u8; 512];
            let n = peer.read(&mut request).unwrap();
            peer.write_all(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n").unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        assert_eq!(get(address, "/readyz").unwrap(), (503, "no\n".to_owned()));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\n"));
    }
}
