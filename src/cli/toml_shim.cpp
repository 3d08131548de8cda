/* SPDX-License-Identifier: Apache-2.0 */
/* The only C++ of the program: no exception leaves it. */
#include "cli/toml_shim.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace
{

struct Entry {
    std::string key;
    const toml::node *node;
};

std::vector<Entry> entries_by_line(const toml::table &document)
{
    std::vector<Entry> entries;
    for (const auto &[key, node] : document)
        entries.push_back({std::string(key.str()), &node});
    std::stable_sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) {
        return a.node->source().begin < b.node->source().begin;
    });
    return entries;
}

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

bool hand_over(const Entry &entry, toml_entry_fn take, void *ctx)
{
    toml_entry_t out = {};
    std::string text;
    out.key = entry.key.c_str();
    out.kind = TOML_KIND_OTHER;
    out.kind_name = name_of(entry.node->type());
    out.line = static_cast<int32_t>(entry.node->source().begin.line);
    if (const auto *string = entry.node->as_string()) {
        text = string->get();
        out.kind = TOML_KIND_STRING;
        if (text.find('\0') != std::string::npos) {
            out.kind = TOML_KIND_OTHER;
            out.kind_name = "a string with a NUL in it";
        }
        out.string = text.c_str();
    } else if (const auto *integer = entry.node->as_integer()) {
        out.kind = TOML_KIND_INTEGER;
        out.integer = integer->get();
    } else if (const auto *boolean = entry.node->as_boolean()) {
        out.kind = TOML_KIND_BOOLEAN;
        out.integer = boolean->get() ? 1 : 0;
    }
    return take(ctx, &out) != 0;
}

} // namespace

extern "C" int toml_read(const char *text, size_t byte_count, toml_entry_fn take, void *ctx,
                         int32_t *line, char *message, size_t message_bytes)
{
    message[0] = '\0';
    try {
        const toml::table document = toml::parse(std::string_view(text, byte_count));
        for (const Entry &entry : entries_by_line(document))
            if (!hand_over(entry, take, ctx))
                return 0;
        return 1;
    } catch (const toml::parse_error &error) {
        *line = static_cast<int32_t>(error.source().begin.line);
        const std::string_view what = error.description();
        std::snprintf(message, message_bytes, "%.*s", static_cast<int>(what.size()), what.data());
    } catch (const std::exception &error) {
        *line = 0;
        std::snprintf(message, message_bytes, "%s", error.what());
    }
    return 0;
}
