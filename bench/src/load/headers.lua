-- A small call as a browser behind a tracing gateway makes it: eight further headers, of which two change with each call.
local head = "GET /small HTTP/1.1\r\nhost: payments\r\n"
    .. "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    .. "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    .. "accept-language: en-GB,en;q=0.7,de;q=0.3\r\n"
    .. "accept-encoding: gzip, deflate, br, zstd\r\n"
    .. "referer: https://shop.example.com/basket?step=2\r\n"
    .. "cookie: session=8d0f6c1e7b2a49d3a5f4e6b7c8d9e0f1; csrf=Zm9vYmFyYmF6cXV4; consent=all; theme=dark; cart=3f2a9c\r\n"
local serial = 0

request = function()
    serial = serial + 1
    return head .. string.format(
        "traceparent: 00-4bf92f3577b34da6a3ce929d%08x-00f067aa%08x-01\r\nx-request-id: 7b1c4e0a-93d2-4f6e-8a57-0000%08x\r\n\r\n",
        serial, serial, serial)
end
