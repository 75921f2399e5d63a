/**
 * Owns small answers that several route files give beside a typed body: headers, and bodies of a chosen status.
 */
import { Effect } from "effect"
import { HttpEffect, HttpServerResponse } from "effect/http"

/** Adds headers to the answer of the current request, if it succeeds. */
export const addHeaders = (headers: { readonly [name: string]: string }) =>
  HttpEffect.appendPreResponseHandler((_request, response) =>
    Effect.succeed(response.status < 400 ? HttpServerResponse.setHeaders(response, headers) : response)
  )

/** A JSON answer whose status is not the first that the contract lists. */
export const jsonAnswer = (status: number, body: unknown) => HttpServerResponse.jsonUnsafe(body, { status })
