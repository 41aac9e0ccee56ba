// SPDX-License-Identifier: Apache-2.0
//
// The only C++ of the program: toml++ behind the C interface of toml.h.
//
// toml++ is used header-only, for three reasons: its limit on nested values
// can be set, the fuzzer sees into it, and the daemon needs no C++ library of
// the same version at run time.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 1
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_WINDOWS_COMPAT 0
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>

extern "C" {
#include "conf/toml.h"
}

namespace
{

// toml++ bounds the nesting of values but not that of dotted keys, and frees
// tables recursively: a line of 500,000 dots would overflow the stack. With
// this, tables nest at most TOML_MAX_NESTED_VALUES times as deep.
constexpr size_t dots_per_line_max = 256;

struct node_deleter {
	void operator()(toml_node *node) const
	{
		toml_free(node);
	}
};
using node_ptr = std::unique_ptr<toml_node, node_deleter>;

// Something that toml++ accepts and we do not.
struct refusal {
	const char *what;
	int line;
};

// Line of the first line with too many dots, or 0.
int too_many_dots(std::string_view text)
{
	size_t dots = 0;
	int line = 1;

	for (char c : text) {
		if (c == '\n') {
			line++;
			dots = 0;
		} else if (c == '.' && ++dots > dots_per_line_max) {
			return line;
		}
	}
	return 0;
}

char *copy(std::string_view s, int line)
{
	if (s.find('\0') != s.npos)
		throw refusal{ "a NUL character, which no value may contain", line };
	char *p = static_cast<char *>(malloc(s.size() + 1));
	if (!p)
		throw std::bad_alloc();
	memcpy(p, s.data(), s.size());
	p[s.size()] = '\0';
	return p;
}

node_ptr convert(const toml::node &value, const toml::key *key, int depth);

void convert_children(toml_node &parent, const toml::node &value, int depth)
{
	toml_node **tail = &parent.child;

	if (const toml::table *table = value.as_table()) {
		for (const auto &[key, child] : *table) {
			*tail = convert(child, &key, depth + 1).release();
			tail = &(*tail)->next;
		}
	} else if (const toml::array *array = value.as_array()) {
		for (const toml::node &child : *array) {
			*tail = convert(child, nullptr, depth + 1).release();
			tail = &(*tail)->next;
		}
	}
}

toml_type convert_type(const toml::node &value)
{
	switch (value.type()) {
	case toml::node_type::table:
		return TOML_TABLE;
	case toml::node_type::array:
		return TOML_ARRAY;
	case toml::node_type::string:
		return TOML_STRING;
	case toml::node_type::integer:
		return TOML_INTEGER;
	case toml::node_type::boolean:
		return TOML_BOOLEAN;
	case toml::node_type::floating_point:
		return TOML_FLOAT;
	default:
		return TOML_TIME;
	}
}

node_ptr convert(const toml::node &value, const toml::key *key, int depth)
{
	const toml::source_position where = (key ? key->source() : value.source()).begin;
	const int line = static_cast<int>(where.line);

	if (depth > TOML_DEPTH_MAX)
		throw refusal{ "tables or lists inside one another, deeper than any key", line };
	node_ptr node(static_cast<toml_node *>(calloc(1, sizeof(toml_node))));
	if (!node)
		throw std::bad_alloc();
	node->type = convert_type(value);
	node->line = line;
	node->column = static_cast<int>(where.column);
	if (key)
		node->key = copy(key->str(), line);
	if (const auto *s = value.as_string())
		node->text = copy(s->get(), line);
	else if (const auto *i = value.as_integer())
		node->integer = i->get();
	else if (const auto *b = value.as_boolean())
		node->integer = b->get();
	else
		convert_children(*node, value, depth);
	return node;
}

} // namespace

extern "C" struct err *toml_parse(const char *text, size_t len, struct toml_node **out, int *line)
{
	*out = nullptr;
	*line = 0;
	if (len > TOML_TEXT_MAX)
		return err_new("longer than %d bytes", TOML_TEXT_MAX);
	const std::string_view view(text, len);
	if ((*line = too_many_dots(view)) != 0)
		return err_new("more than %zu dots in one line", dots_per_line_max);
	try {
		*out = convert(toml::parse(view), nullptr, 0).release();
		return nullptr;
	} catch (const toml::parse_error &e) {
		const std::string what(e.description());

		*line = static_cast<int>(e.source().begin.line);
		return err_new("%s", what.c_str());
	} catch (const refusal &r) {
		*line = r.line;
		return err_new("%s", r.what);
	} catch (const std::exception &e) {
		return err_new("%s", e.what());
	}
}

extern "C" void toml_free(struct toml_node *node)
{
	while (node) {
		struct toml_node *next = node->next;

		toml_free(node->child);
		free(node->key);
		free(node->text);
		free(node);
		node = next;
	}
}
