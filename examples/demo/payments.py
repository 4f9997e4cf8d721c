"""payments: adds the fee, and says which instance did. Usage: payments.py PORT NAME"""

import sys

import web

PORT, NAME = int(sys.argv[1]), sys.argv[2]


def fee(query, headers):
    cents = int(query["cents"])
    return {
        "fee": max(1, cents * 2 // 100),
        "by": NAME,
        # Proven by the caller's certificate; the sidecar strips such a header when it comes from outside.
        "caller": headers.get("x-pillion-peer", "unknown"),
    }


web.serve(PORT, {"/fee": fee})
