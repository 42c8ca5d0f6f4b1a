package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/topk-charts/topk/client"
)

func ExampleClient_Top() {
	// For the real thing this is the address of "topk up" or "topk serve".
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("window") == "2h" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"detail":"parameters are not as they should be","errors":[{"location":"query.window","message":"must be 1h or 24h"}]}`)
			return
		}
		fmt.Fprint(w, `{"dim":"region:IN","window":"24h","items":[`+
			`{"rank":1,"songId":"s456","score":42,"metadata":{"title":"Kesariya","artist":"Arijit Singh"}},`+
			`{"rank":2,"songId":"s457","score":40,"metadata":null}]}`)
	}))
	defer server.Close()

	api, err := client.New(server.URL, client.WithHTTPClient(server.Client()))
	if err != nil {
		log.Fatal(err)
	}
	chart, err := api.Top(context.Background(), client.TopRequest{Dim: "region:IN", Window: "24h", K: 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range chart.Items {
		title := item.SongID
		if item.Metadata != nil {
			title = item.Metadata.Title + " by " + item.Metadata.Artist
		}
		fmt.Printf("%d. %s, %d plays\n", item.Rank, title, item.Score)
	}

	_, err = api.Top(context.Background(), client.TopRequest{Window: "2h"})
	var problem *client.Problem
	if errors.As(err, &problem) {
		fmt.Println(problem.Status, problem.Errors[0].Location, problem.Errors[0].Message)
	}

	// Output:
	// 1. Kesariya by Arijit Singh, 42 plays
	// 2. s457, 40 plays
	// 400 query.window must be 1h or 24h
}
