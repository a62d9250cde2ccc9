package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpMetrics are the figures of HTTP. Labels are routes, methods and codes, never ids.
type httpMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	lines    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, connections func() (open int, ended uint64)) *httpMetrics {
	m := &httpMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "afterword_http_requests_total",
			Help: "Requests answered, by route, method and status code; 499 is a client that went away.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "afterword_http_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, the waits that clients asked for included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "afterword_http_requests_in_flight",
			Help: "Requests that are being answered.",
		}),
	}
	m.lines = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "afterword_http_batch_lines_total",
		Help: "Lines of batches that were taken, by the status code of their result.",
	}, []string{"code"})
	for _, status := range []int{http.StatusCreated, http.StatusAccepted, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity} {
		m.lines.WithLabelValues(strconv.Itoa(status)) // 0 from the start, so that the first one is seen as an increase
	}
	reg.MustRegister(m.requests, m.duration, m.inFlight, m.lines,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "afterword_http_connections",
			Help: "Connections that are open.",
		}, func() float64 { open, _ := connections(); return float64(open) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "afterword_http_connections_ended_total",
			Help: "Idle connections ended for new ones, because there were as many as there may be.",
		}, func() float64 { _, ended := connections(); return float64(ended) }))
	return m
}

// counts are those of [httpio.Connections].
func (g *Gateway) counts() (open int, ended uint64) {
	if conns := g.connections.Load(); conns != nil {
		return conns.Counts()
	}
	return 0, 0
}

func (m *httpMetrics) answered(pattern, method string, status int, took time.Duration) {
	if pattern == "" {
		pattern = "unknown"
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(pattern, method, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(pattern, method).Observe(took.Seconds())
}

func serveMetrics(reg *prometheus.Registry) handler {
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
	return func(w http.ResponseWriter, r *http.Request, _ place) error {
		h.ServeHTTP(w, r)
		return nil
	}
}
