# A caching proxy in front of Headwater. `make clients` tries to poison its cache. Replace the name,
# the port and the node. Streams with long names need
# `-p http_req_hdr_len=32k -p http_resp_hdr_len=32k`.
vcl 4.1;

backend default {
    .host = "node1";
    .port = "2113";
}

sub vcl_recv {
    # Who asks for another name is not answered: links would lead there.
    if (req.http.Host != "feeds.example.com") {
        return (synth(421));
    }
    # Links lead through here. Anybody can send these headers, so what comes from outside is cleared
    # or replaced. ES-TrustedAuth is the header by which intermediaries name the caller
    # (--trusted-auth-from); X-Forwarded-For counts with --trusted-proxies.
    unset req.http.ES-TrustedAuth;
    unset req.http.Forwarded;
    unset req.http.X-Forwarded-Port;
    unset req.http.X-Forwarded-Prefix;
    set req.http.X-Forwarded-Host = "feeds.example.com:80";
    set req.http.X-Forwarded-Proto = "http";
    set req.http.X-Forwarded-For = client.ip;
    # The state of nodes and the users are nothing to keep.
    if (req.url !~ "^/streams/") {
        return (pass);
    }
    # Subscriptions have no end.
    if (req.http.Accept ~ "text/event-stream") {
        return (pipe);
    }
}

sub vcl_backend_response {
    # What says nothing of caching is not kept: Varnish would keep a 404 for two minutes, and the
    # stream may be there a moment later.
    if (!beresp.http.Cache-Control) {
        set beresp.ttl = 0s;
        set beresp.uncacheable = true;
        return (deliver);
    }
    # A head that may not be kept any longer is asked for again before it is shown.
    set beresp.grace = 0s;
}
