"""A page to try models on: fill a blank, answer a question, link what means the same, tell a relation.

    pip install -e ".[demo]"
    python examples/demo.py --fill runs/tiny/export --answer runs/squad_v2/export

A tab is there for each model that is given, a folder or a repository of the Hub. The page is served to this machine
only, and nothing is sent to anyone.
"""

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from html import escape

import gradio as gr

from modeling_spanbert import CoreferenceResolver, QuestionAnswerer, RelationExtractor, SpanFiller
from modeling_spanbert.show import (
    STYLE,
    AnsweredQuestion,
    answer_html,
    document_html,
    find_spans,
    marked_html,
    scores_html,
)


CSS = f"""{STYLE}
.gradio-container {{ width: 100%; max-width: 52rem !important; margin: 0 auto; }}
.shown h2 {{ margin-top: 0; }}
@media (max-width: 30rem) {{ .gradio-container .tab-container button {{ padding: 0 0.6rem; }} }}
"""
BLANK = "The [BLANK] of the United States spoke to the people."
CONTEXT = (
    "The port of Batamay was built in 1840 by two brothers from Genoa. It was sold to the king of Spain sixty years "
    "later, and closed after the storm of 1950."
)
COREFERENCE = "Ada saw her dog in the garden. It slept, so she went back to the house and left it there."
RELATION = "Ada Lovelace was born in London."


def part(*pieces: str) -> str:
    """HTML as it stands on the pages of `spanbert show`."""
    return "\n".join(['<section class="shown">', *pieces, "</section>"])


def in_one_line(predict: Callable) -> Callable:
    """`predict`, with what the user has to change shown as a message on the page."""

    @wraps(predict)
    def shown(*inputs):
        try:
            return predict(*inputs)
        except ValueError as error:
            # A message is HTML, without what could run; text is to be seen as it is.
            raise gr.Error(escape(" ".join(str(error).split()), quote=False), print_exception=False) from None

    return shown


def fill_tab(name: str) -> None:
    filler = SpanFiller.from_pretrained(name)

    def fill(text: str, num_words: float) -> str:
        found = filler(text, num_words=int(num_words) or None, top_k=5)
        if not found:
            return part("<p>Nothing fits.</p>")
        best = found[0]
        marked = marked_html(best["text"], [[(best["start"], best["end"])]], "filling")
        return part(
            f'<div class="text" dir="auto">{marked}</div>',
            scores_html((each["filling"], each["score"]) for each in found),
        )

    text = gr.Textbox(BLANK, label="Text with a [BLANK]", lines=2)
    num_words = gr.Slider(0, 10, value=0, step=1, label="Words in the blank; 0: any number")
    gr.Button("Fill", variant="primary").click(in_one_line(fill), [text, num_words], gr.HTML(), api_name="fill")


def answer_tab(name: str) -> None:
    answerer = QuestionAnswerer.from_pretrained(name)

    def answer(question: str, context: str) -> str:
        return answer_html(AnsweredQuestion.by(answerer, question, context))

    question = gr.Textbox("Who built the port?", label="Question")
    context = gr.Textbox(CONTEXT, label="Text", lines=5)
    inputs = [question, context]
    gr.Button("Answer", variant="primary").click(in_one_line(answer), inputs, gr.HTML(), api_name="answer")


def coreference_tab(name: str) -> None:
    resolver = CoreferenceResolver.from_pretrained(name)

    def resolve(text: str) -> str:
        result = resolver.predict(text)
        return document_html("What means the same", result.text, result.clusters())

    text = gr.Textbox(COREFERENCE, label="Text", lines=6)
    gr.Button("Resolve", variant="primary").click(in_one_line(resolve), text, gr.HTML(), api_name="coreference")


def relations_tab(name: str) -> None:
    extractor = RelationExtractor.from_pretrained(name)
    types = {"SUBJ": [], "OBJ": []}  # that the model is shown, where it is shown any
    for marker in extractor.model.config.entity_token_map or {}:
        role, _, entity_type = marker.partition("=")
        if role in types and entity_type:
            types[role].append(entity_type)

    def relate(text: str, subject: str, object: str, subject_type: str | None, object_type: str | None) -> str:
        spans = [find_spans(text, [string])[0] for string in (subject, object)]
        kinds = {"subject_type": subject_type, "object_type": object_type}
        found = extractor(text=text, subject=spans[0], object=spans[1], **kinds)
        return part(
            f'<div class="text" dir="auto">{marked_html(text, [[span] for span in spans], "entity")}</div>',
            scores_html([(f"{found['label']}: 1 → 2", found["score"])]),
        )

    text = gr.Textbox(RELATION, label="Text", lines=3)
    with gr.Row():
        subject = gr.Textbox("Ada Lovelace", label="Subject, as in the text")
        subject_type = type_choice(types["SUBJ"], "PER")
    with gr.Row():
        object = gr.Textbox("London", label="Object, as in the text")
        object_type = type_choice(types["OBJ"], "LOC")
    inputs = [text, subject, object, subject_type, object_type]
    gr.Button("Relate", variant="primary").click(in_one_line(relate), inputs, gr.HTML(), api_name="relations")


def type_choice(types: list[str], of_example: str) -> gr.Dropdown:
    """Hidden where the model is shown no types; set to one that begins as that of the example, if there is one."""
    value = next((each for each in types if each.upper().startswith(of_example)), types[0] if types else None)
    return gr.Dropdown(types, value=value, label="Its type", visible=bool(types))


TABS = {
    "fill": ("Fill", fill_tab, "pre-trained model with its heads"),
    "answer": ("Answer", answer_tab, "question answering model"),
    "coref": ("Clusters", coreference_tab, "coreference model"),
    "relations": ("Relations", relations_tab, "relation extraction model"),
}


def build(models: dict[str, str]) -> gr.Blocks:
    """The page with a tab for each of the models, by the names in `TABS`.

    Raises ValueError or OSError for a model that cannot be opened, or is not fine-tuned for its tab.
    """
    with gr.Blocks(title="SpanBERT", analytics_enabled=False) as demo:
        gr.Markdown("# SpanBERT")
        for name in TABS:
            if name in models:
                title, tab, _ = TABS[name]
                with gr.Tab(title):
                    tab(models[name])
    return demo


def launch(demo: gr.Blocks, **options) -> tuple:
    """Serves the page on 127.0.0.1 and returns at once; `options` and the result are those of `gr.Blocks.launch`."""
    looks = {"css": CSS, "theme": gr.themes.Default(font=["system-ui", "sans-serif"]), "footer_links": []}
    return demo.launch(share=False, ssr_mode=False, quiet=True, prevent_thread_lock=True, **looks, **options)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (_, _, kind) in TABS.items():
        parser.add_argument(f"--{name}", metavar="MODEL", help=kind)
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    args = parser.parse_args(argv)
    models = {name: getattr(args, name) for name in TABS if getattr(args, name) is not None}
    try:
        if not models:
            raise ValueError(f"no model given: expected at least one of {', '.join(f'--{name}' for name in TABS)}")
        demo = build(models)
        _, url, _ = launch(demo, server_port=args.port)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{url} (Ctrl-C ends it)")
    demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
