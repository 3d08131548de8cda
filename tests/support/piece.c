/* SPDX-License-Identifier: Apache-2.0 */
/* Arenas with a second copy where the first cannot be touched. */
#include "support/piece.h"

#include <stdlib.h>

piece_t piece_at_home(device_t *device, const arena_t *arena)
{
    piece_t piece = {
        .device = device, .arena = arena, .host = arena_allocate(arena), .is_home = true};
    piece.given = device_is_remote(device) ? device_allocate(device, arena->bytes) : piece.host;
    piece_upload(&piece);
    return piece;
}

piece_t piece_in_window(device_t *device, const arena_t *arena, const moxie_window_t *window)
{
    piece_t piece = {.device = device, .arena = arena, .given = moxie_window_base(window)};
    piece.host = piece.given;
    if (device_is_remote(device)) {
        piece.host = arena_allocate(arena);
    } else {
        arena_poison(arena, piece.host);
    }
    piece_upload(&piece);
    return piece;
}

void piece_free(piece_t *piece)
{
    if (device_is_remote(piece->device) && piece->is_home) {
        device_free(piece->device, piece->given);
    }
    if (piece->host != piece->given || piece->is_home) {
        free(piece->host);
    }
}

void *piece_host(const piece_t *piece, size_t region)
{
    return arena_at(piece->arena, region, piece->host);
}

void piece_upload(const piece_t *piece)
{
    if (device_is_remote(piece->device)) {
        arena_open(piece->arena, piece->host);
        device_upload(piece->device, piece->given, piece->host, piece->arena->bytes);
    }
}

void piece_download(const piece_t *piece)
{
    if (device_is_remote(piece->device)) {
        arena_open(piece->arena, piece->host);
        device_download(piece->device, piece->host, piece->given, piece->arena->bytes);
    }
}

void piece_scramble(const piece_t *piece)
{
    if (!device_is_remote(piece->device)) {
        arena_open(piece->arena, piece->host);
    }
    device_fill(piece->device, piece->given, 0x5A, piece->arena->bytes);
}
