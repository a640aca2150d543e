"""LitServe in its documented batched form; `RIVAL=engine` has Ekiben's engine in the model's place."""

import os
import sys
from pathlib import Path

import litserve as ls


class Api(ls.LitAPI):
    """Classify batches of texts."""

    def setup(self, device: str) -> None:
        """Load the model."""
        if os.environ["RIVAL"] == "engine":
            sys.path.insert(0, os.environ["SERVICE"])
            from engine import Engine

            classify = Engine(Path(os.environ["MODEL"])).classify
            self.model = lambda texts: [answer.probabilities for answer in classify(texts)]
        else:
            from transformers import pipeline

            loaded = pipeline("text-classification", model=os.environ["MODEL"])
            self.model = lambda texts: loaded(texts, truncation=True, batch_size=64)

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text of a request."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Return the texts of a batch."""
        return list(inputs)

    def predict(self, x: list[str]) -> list[object]:
        """Return the model's answers."""
        return self.model(x)

    def unbatch(self, output: list[object]) -> list[object]:
        """Return them one by one."""
        return output

    def encode_response(self, output: object) -> dict[str, object]:
        """Return the body of an answer."""
        return {"answer": output}


if __name__ == "__main__":
    server = ls.LitServer(Api(max_batch_size=64, batch_timeout=0.01), accelerator="cpu")
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False)
