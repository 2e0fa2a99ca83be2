//! An OTLP receiver: a real HTTP server on loopback that decodes what it gets, or hangs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
        trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{metric::Data, number_data_point},
    trace::v1::Span,
};
use prost::Message;

/// Received so far.
#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    logs: Vec<LogRecord>,
    /// The latest of each metric: its name with its labels, and its value.
    numbers: std::collections::BTreeMap<String, f64>,
    services: std::collections::BTreeSet<String>,
    headers: Vec<HeaderMap>,
    bytes: Vec<u8>,
}

/// The receiver. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Arc<Mutex<Received>>,
    hanging: Arc<AtomicUsize>,
    hangs: bool,
    /// Answers that nothing can be taken now; counts them.
    refuses: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) async fn start() -> Self {
        Self::listen(false).await
    }

    /// One that takes connections and never answers.
    pub(crate) async fn hanging() -> Self {
        Self::listen(true).await
    }

    async fn listen(hangs: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            received: Arc::default(),
            hanging: Arc::default(),
            hangs,
            refuses: Arc::default(),
            refused: Arc::default(),
        };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// What makes a daemon send here.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=open%20sesame"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
            ("OTEL_SERVICE_NAME", "valet-under-test"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Takes nothing from now on, or everything again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Requests that were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests that hang now.
    pub(crate) fn held(&self) -> usize {
        self.hanging.load(Ordering::Relaxed)
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    pub(crate) fn logs(&self) -> Vec<LogRecord> {
        self.received.lock().unwrap().logs.clone()
    }

    /// The latest value of a sum or gauge: `name{label="value"}`, labels in order.
    pub(crate) fn number(&self, series: &str) -> Option<f64> {
        self.received.lock().unwrap().numbers.get(series).copied()
    }

    pub(crate) fn services(&self) -> Vec<String> {
        self.received.lock().unwrap().services.iter().cloned().collect()
    }

    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.received.lock().unwrap().headers.clone()
    }

    /// All bodies, to be searched.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap().bytes).into_owned()
    }
}

async fn take(State(receiver): State<Receiver>, request: Request) -> Response {
    if receiver.hangs {
        receiver.hanging.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }
    if receiver.refuses.load(Ordering::Relaxed) {
        receiver.refused.fetch_add(1, Ordering::Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut received = receiver.received.lock().unwrap();
    received.bytes.extend_from_slice(&body);
    received.headers.push(parts.headers);
    let answer = match parts.uri.path() {
        "/v1/traces" => {
            received.take_spans(ExportTraceServiceRequest::decode(body).unwrap());
            ExportTraceServiceResponse::default().encode_to_vec()
        }
        "/v1/logs" => {
            received.take_logs(ExportLogsServiceRequest::decode(body).unwrap());
            ExportLogsServiceResponse::default().encode_to_vec()
        }
        "/v1/metrics" => {
            received.take_metrics(ExportMetricsServiceRequest::decode(body).unwrap());
            ExportMetricsServiceResponse::default().encode_to_vec()
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([("content-type", "application/x-protobuf")], Bytes::from(answer)).into_response()
}

impl Received {
    fn take_spans(&mut self, request: ExportTraceServiceRequest) {
        for group in request.resource_spans {
            let resource = group.resource.unwrap_or_default();
            self.services.extend(text_of(&resource.attributes, "service.name"));
            for scope in group.scope_spans {
                self.spans.extend(scope.spans);
            }
        }
    }

    fn take_logs(&mut self, request: ExportLogsServiceRequest) {
        for group in request.resource_logs {
            for scope in group.scope_logs {
                self.logs.extend(scope.log_records);
            }
        }
    }

    fn take_metrics(&mut self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let points = match metric.data {
                Some(Data::Sum(sum)) => sum.data_points,
                Some(Data::Gauge(gauge)) => gauge.data_points,
                Some(Data::Histogram(histogram)) => {
                    for point in histogram.data_points {
                        let series = series(&format!("{}.count", metric.name), &point.attributes);
                        let count = u32::try_from(point.count).unwrap();
                        self.numbers.insert(series, f64::from(count));
                    }
                    continue;
                }
                _ => continue,
            };
            for point in points {
                let value = match point.value {
                    Some(number_data_point::Value::AsDouble(value)) => value,
                    Some(number_data_point::Value::AsInt(value)) => {
                        f64::from(i32::try_from(value).unwrap())
                    }
                    None => continue,
                };
                self.numbers.insert(series(&metric.name, &point.attributes), value);
            }
        }
    }
}

fn series(name: &str, attributes: &[KeyValue]) -> String {
    let mut labels: Vec<String> = attributes
        .iter()
        .map(|pair| format!("{}=\"{}\"", pair.key, text(pair.value.as_ref()).unwrap_or_default()))
        .collect();
    labels.sort();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

/// An attribute as text.
pub(crate) fn text_of(attributes: &[KeyValue], name: &str) -> Option<String> {
    text(attributes.iter().find(|pair| pair.key == name)?.value.as_ref())
}

/// A value as text.
pub(crate) fn text(value: Option<&AnyValue>) -> Option<String> {
    match value?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}
