"""orders: knows the prices, and asks payments for the fee. Usage: orders.py PORT NAME"""

import sys

import web

PORT, NAME = int(sys.argv[1]), sys.argv[2]
CENTS = {"tea": 250, "bread": 320, "honey": 890}


def quote(query, headers):
    cents = CENTS[query["item"]] * int(query["count"])
    payment = web.call("payments", "/fee", query.get("method", "GET"), cents=cents)
    return {
        "id": query["id"],
        "cents": cents + payment["fee"],
        "orders": NAME,
        "orders_called_by": headers.get("x-pillion-peer", "unknown"),
        "payments": payment["by"],
        "payments_called_by": payment["caller"],
    }


web.serve(PORT, {"/quote": quote})
