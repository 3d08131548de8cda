/* SPDX-License-Identifier: Apache-2.0 */
/* The only C++ of the program: no exception leaves it. */
#include "toml/toml.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

struct toml_document {
    std::deque<std::string> texts;
    std::deque<std::vector<toml_node_t>> arrays;
    toml_node_t root = {};
};

namespace
{

/* Parts of a dotted key. toml++ bounds how deep values nest, but not this, and to leave a table
 * takes stack for every table in it. */
constexpr int part_count_max = 32;

const char *name_of(toml::node_type type)
{
    switch (type) {
    case toml::node_type::table:
        return "a table";
    case toml::node_type::array:
        return "an array";
    case toml::node_type::string:
        return "a string";
    case toml::node_type::integer:
        return "a whole number";
    case toml::node_type::floating_point:
        return "a fraction";
    case toml::node_type::boolean:
        return "true or false";
    default:
        return "a date or time";
    }
}

/* The byte behind the string that begins at `at`; the end of the text when it does not end. */
size_t skip_string(std::string_view text, size_t at)
{
    const char quote = text[at];
    const std::string_view triple(quote == '"' ? "\"\"\"" : "'''");
    const bool is_long = text.substr(at, 3) == triple;
    for (at += is_long ? 3 : 1; at < text.size(); at++) {
        if (text[at] == '\\' && quote == '"')
            at++;
        else if (is_long ? text.substr(at, 3) == triple : text[at] == quote)
            return at + (is_long ? 3 : 1);
        else if (!is_long && text[at] == '\n')
            return at;
    }
    return text.size();
}

/* Whether a key has too many parts; `line` is then where. */
bool is_too_deep(std::string_view text, int32_t *line)
{
    int dot_count = 0;
    for (size_t at = 0; at < text.size();) {
        const char c = text[at];
        if (c == '"' || c == '\'') {
            at = skip_string(text, at);
            continue;
        }
        if (c == '#')
            at = std::min(text.find('\n', at), text.size());
        else
            at++;
        if (std::strchr("=,[]{}\n#", c) != nullptr)
            dot_count = 0;
        else if (c == '.' && ++dot_count >= part_count_max) {
            *line = 1 + static_cast<int32_t>(std::count(text.begin(), text.begin() + at, '\n'));
            return true;
        }
    }
    return false;
}

/* Makes nodes of a document from those of toml++. */
class Builder
{
  public:
    explicit Builder(toml_document &document) : document_(document)
    {
    }

    /* `key` is NULL for what has none. */
    toml_node_t build(const toml::node &node, const toml::key *key);

  private:
    toml_document &document_;

    const char *keep(std::string_view text);
    void adopt(std::vector<toml_node_t> &&children, toml_node_t *out);
    void build_table(const toml::table &table, toml_node_t *out);
    void build_array(const toml::array &array, toml_node_t *out);
    void build_value(const toml::node &node, toml_node_t *out);
};

// NOLINTBEGIN(misc-no-recursion): as deep as the document, which toml++ and is_too_deep() bound
toml_node_t Builder::build(const toml::node &node, const toml::key *key)
{
    toml_node_t out = {};
    const toml::source_position place = key != nullptr ? key->source().begin : node.source().begin;
    out.line = static_cast<int32_t>(place.line);
    out.column = static_cast<int32_t>(place.column);
    out.kind_name = name_of(node.type());
    out.kind = TOML_KIND_OTHER;
    if (key != nullptr) {
        if (key->str().find('\0') != std::string_view::npos)
            throw toml::parse_error("a key must not have a NUL in it", key->source());
        out.key = keep(key->str());
    }
    if (const auto *table = node.as_table())
        build_table(*table, &out);
    else if (const auto *array = node.as_array())
        build_array(*array, &out);
    else
        build_value(node, &out);
    return out;
}

const char *Builder::keep(std::string_view text)
{
    return document_.texts.emplace_back(text).c_str();
}

void Builder::adopt(std::vector<toml_node_t> &&children, toml_node_t *out)
{
    const auto &kept = document_.arrays.emplace_back(std::move(children));
    out->children = kept.data();
    out->child_count = static_cast<int32_t>(kept.size());
}

void Builder::build_table(const toml::table &table, toml_node_t *out)
{
    std::vector<toml_node_t> children;
    for (const auto &[key, node] : table)
        children.push_back(build(node, &key));
    std::stable_sort(children.begin(), children.end(),
                     [](const toml_node_t &a, const toml_node_t &b) {
                         return a.line != b.line ? a.line < b.line : a.column < b.column;
                     });
    out->kind = TOML_KIND_TABLE;
    adopt(std::move(children), out);
}

void Builder::build_array(const toml::array &array, toml_node_t *out)
{
    std::vector<toml_node_t> children;
    for (const toml::node &node : array)
        children.push_back(build(node, nullptr));
    out->kind = TOML_KIND_ARRAY;
    adopt(std::move(children), out);
}

// NOLINTEND(misc-no-recursion)

void Builder::build_value(const toml::node &node, toml_node_t *out)
{
    if (const auto *string = node.as_string()) {
        const bool has_nul = string->get().find('\0') != std::string::npos;
        out->kind = has_nul ? TOML_KIND_OTHER : TOML_KIND_STRING;
        out->kind_name = has_nul ? "a string with a NUL in it" : out->kind_name;
        out->string = has_nul ? nullptr : keep(string->get());
    } else if (const auto *integer = node.as_integer()) {
        out->kind = TOML_KIND_INTEGER;
        out->integer = integer->get();
    } else if (const auto *fraction = node.as_floating_point()) {
        out->kind = TOML_KIND_FRACTION;
        out->fraction = fraction->get();
    } else if (const auto *boolean = node.as_boolean()) {
        out->kind = TOML_KIND_BOOLEAN;
        out->integer = boolean->get() ? 1 : 0;
    }
}

void say(toml_error_t *error, std::string_view what)
{
    std::snprintf(error->message, sizeof(error->message), "%.*s", static_cast<int>(what.size()),
                  what.data());
}

} // namespace

extern "C" toml_document_t *toml_parse(const char *text, size_t byte_count, toml_error_t *error)
{
    const std::string_view view(text, byte_count);
    toml_document *document = nullptr;
    *error = {};
    try {
        if (is_too_deep(view, &error->line)) {
            error->column = 1;
            say(error, "a key must not have more than 32 parts");
            return nullptr;
        }
        const toml::table table = toml::parse(view);
        document = new toml_document;
        document->root = Builder(*document).build(table, nullptr);
        return document;
    } catch (const toml::parse_error &failure) {
        error->line = static_cast<int32_t>(failure.source().begin.line);
        error->column = static_cast<int32_t>(failure.source().begin.column);
        say(error, failure.description());
    } catch (const std::exception &failure) {
        say(error, failure.what());
    }
    delete document;
    return nullptr;
}

extern "C" const toml_node_t *toml_root(const toml_document_t *document)
{
    return &document->root;
}

extern "C" const toml_node_t *toml_find(const toml_node_t *table, const char *key)
{
    if (table == nullptr || table->kind != TOML_KIND_TABLE)
        return nullptr;
    for (int32_t i = 0; i < table->child_count; i++)
        if (std::strcmp(table->children[i].key, key) == 0)
            return &table->children[i];
    return nullptr;
}

extern "C" void toml_release(toml_document_t *document)
{
    delete document;
}
