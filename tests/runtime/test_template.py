"""ChatTemplate: renders what chat templates need, and no hostile one gets away with anything."""

import time

import pytest

from chatsafe_runtime.worker.template import ChatTemplate, TemplateFailed, TemplateRefused

CHAT = [{"role": "user", "content": "Hi"}]


def render(source: str, messages: list[dict[str, str]] | None = None) -> str:
    template = ChatTemplate(source, bos_text="<s>", eos_text="</s>", context_window=1024)
    return template.render(CHAT if messages is None else messages)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}", "<s>Hi</s>"),
        ("{% for m in messages %}\n{{ m.role }}\n{% endfor %}\n", "user\n"),
        ("{% if add_generation_prompt %}A:{% endif %}", "A:"),
        ("{{ {'b': 'é<', 'a': 1}|tojson }}", '{"b": "é<", "a": 1}'),
        ("{{ [1]|tojson(indent=1) }}", "[\n 1\n]"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ 'no tools' if not tools }}", "no tools"),
        ("{{ strftime_now('%Y')|length }}", "4"),
        ("{%- set ns = namespace(n=0) -%}{%- set ns.n = 3 * 2 -%}{{ ns.n ** 2 }}", "36"),
        ("{{ '-' * 3 }}{{ 7 % 4 }}{{ '%s' % 'x' }}", "---3x"),
        ("{{ messages[0].content.strip()|trim|upper }}", "HI"),
    ],
)
def test_renders(source: str, text: str) -> None:
    assert render(source) == text


def test_the_template_says_why_it_refuses() -> None:
    with pytest.raises(TemplateRefused, match="Roles must alternate"):
        render("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(TemplateRefused, match=r"^x{200}$"):
        render("{{ raise_exception('x' * 5000) }}")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for %}", "line 1"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError|Undefined"),
        ("{{ lipsum() }}", "UndefinedError"),
        ("{{ cycler(1) }}", "UndefinedError"),
        ("{{ joiner() }}", "UndefinedError"),
        ("{{ range(10001)|list }}", "SecurityError"),
        ("{% include 'x' %}", "TypeError|TemplateNotFound"),
        ("{% import 'os' as os %}", "TypeError|TemplateNotFound"),
        ("{{ 9 ** 999999999 }}", "SecurityError"),
        ("{{ 'x' * 9999999999 }}", "SecurityError"),
        ("{{ 9999999999 * [0] }}", "SecurityError"),
        ("{{ 'x'.ljust(9999999999) }}", "memory|OverflowError"),
        ("{{ '%9999999999d' % 1 }}", "memory|OverflowError|ValueError"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "longer than"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "1 s"),
        (
            "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}"
            "{% set ns.l = ns.l + ns.l %}{% endfor %}",
            "memory",
        ),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "deeply|1 s|RecursionError"),
    ],
)
def test_hostile_templates_end_with_a_reason(source: str, reason: str) -> None:
    started_at = time.process_time()
    with pytest.raises(TemplateFailed, match=reason):
        render(source)
    assert time.process_time() - started_at < 3


def test_a_failing_template_does_not_quote_the_chat() -> None:
    with pytest.raises(TemplateFailed) as caught:
        render("{{ {}[messages[0].content].x.y }}", [{"role": "user", "content": "canary"}])
    assert "canary" not in str(caught.value)
