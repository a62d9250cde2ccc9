package gateway

import (
	_ "embed"
	"net/http"
)

// openAPI describes the API to programs. The tests hold it against the routes and
// against what they answer.
//
//go:embed openapi.json
var openAPI []byte

// describedAt is where it is served.
const describedAt = "/openapi.json"

func describe(w http.ResponseWriter, _ *http.Request, _ place) error {
	return writeRaw(w, http.StatusOK, openAPI)
}
