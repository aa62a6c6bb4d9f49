// Command links serves short codes for long addresses.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"example.com/links/links"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	check := flag.Bool("check", false, "start on a free port, ask /healthz, exit")
	flag.Parse()
	handler := links.Handler(links.NewStore())
	if *check {
		if err := selfCheck(handler); err != nil {
			log.Fatal(err)
		}
		fmt.Println("healthy")
		return
	}
	server := &http.Server{Addr: *listen, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	log.Printf("listening on %s", *listen)
	log.Fatal(server.ListenAndServe())
}

// selfCheck proves that the binary can serve in the environment it stands in.
func selfCheck(handler http.Handler) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, handler) }()
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + listener.Addr().String() + "/healthz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answered %s", response.Status)
	}
	return nil
}
