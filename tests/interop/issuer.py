"""An identity provider for the scenario `identity`: OpenID Connect as far as the broker asks for it.

    /.well-known/openid-configuration, /keys      what the broker fetches
    /token?role=ROLE&alg=RS256&seconds=600        a token for who has that role, to whoever asks
    ... &audience=OTHER, &forged=1                one that is for somebody else, or signed by nobody known
"""

import base64
import functools
import http.server
import json
import threading
import time
import urllib.parse

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "https://servicebus.azure.net"


def number(value, size=None):
    octets = value.to_bytes(size or (value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


class Issuer:
    def __init__(self):
        self.keys = {alg: make() for alg, make in KINDS.items()}
        # With the names of keys that everybody knows, and not known to anybody.
        self.forgers = {alg: make() for alg, make in KINDS.items()}
        handler = functools.partial(Handler, self)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.name = f"http://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self):
        """No roles are named: those of Azure count. Clocks are the same here, so tokens may be short."""
        return "\n".join(
            [
                "[[issuer]]",
                f"issuer = {json.dumps(self.name)}",
                f"audiences = [{json.dumps(AUDIENCE)}]",
                "plain_text = true",
                'clock_skew = "0s"',
                "",
            ]
        )

    def key_set(self):
        rs = self.keys["RS256"].public_key().public_numbers()
        es = self.keys["ES256"].public_key().public_numbers()
        rsa_key = {"kty": "RSA", "use": "sig", "kid": "RS256", "n": number(rs.n), "e": number(rs.e)}
        ec_key = {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": number(es.x, 32), "y": number(es.y, 32)}
        return {"keys": [rsa_key, ec_key]}

    def token(self, asked):
        alg = asked.get("alg", "RS256")
        expires_on = int(time.time()) + int(asked.get("seconds", 600))
        claims = {
            "iss": self.name,
            "aud": asked.get("audience", AUDIENCE),
            "sub": "interop",
            "exp": expires_on,
            "roles": [asked["role"]],
        }
        key = (self.forgers if asked.get("forged") else self.keys)[alg]
        token = jwt.encode(claims, key, algorithm=alg, headers={"kid": alg})
        return {"access_token": token, "expires_on": expires_on}

    def answer(self, path, asked):
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.name, "jwks_uri": f"{self.name}/keys"}
        if path == "/keys":
            return self.key_set()
        if path == "/token":
            return self.token(asked)
        return None


KINDS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, issuer, *arguments):
        self.issuer = issuer
        super().__init__(*arguments)

    def do_GET(self):  # noqa: N802  (the name that the library calls)
        address = urllib.parse.urlsplit(self.path)
        found = self.issuer.answer(address.path, dict(urllib.parse.parse_qsl(address.query)))
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """What is asked is no news."""
