/** Signatures are those of Standard Webhooks and of GitHub, by their own examples. */
import { describe, expect, it } from "vitest"
import { isSigned, isSignedLikeGitHub, parseSecret, secretText, signatures } from "../../src/webhooks/Signature.ts"

// The example of the Standard Webhooks libraries.
const secret = parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") ?? new Uint8Array()
const message = { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: "1614265330", body: '{"test": 2432232314}' }
const signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

describe("a signature of Standard Webhooks", () => {
  it("is that of the published example", () => {
    expect(signatures([secret], message)).toBe(signature)
    expect(isSigned(secret, message, signature, 1_614_265_330)).toBe(true)
  })

  it("is found among others, within five minutes either way, over exactly what was signed", () => {
    expect(isSigned(secret, message, `v1,AAAA v1a,x ${signature}`, 1_614_265_630)).toBe(true)
    expect(isSigned(secret, message, signature, 1_614_265_631)).toBe(false)
    expect(isSigned(secret, message, signature, 1_614_265_029)).toBe(false)
    expect(isSigned(secret, { ...message, body: "{}" }, signature, 1_614_265_330)).toBe(false)
    expect(isSigned(secret, { ...message, id: "msg" }, signature, 1_614_265_330)).toBe(false)
    expect(isSigned(secret, { ...message, timestamp: "1e9" }, signature, 1e9)).toBe(false)
    expect(isSigned(secret, message, signature.replace("v1,", "v2,"), 1_614_265_330)).toBe(false)
  })

  it("has one entry per secret, and secrets survive their text", () => {
    const other = new Uint8Array(32).fill(7)
    expect(signatures([other, secret], message).split(" ")).toHaveLength(2)
    expect(parseSecret(secretText(other))).toEqual(Buffer.from(other))
    expect(parseSecret("whsec_c2hvcnQ=")).toBeUndefined()
    expect(parseSecret("secret")).toBeUndefined()
  })
})

describe("a signature of GitHub", () => {
  it("is that of the example in its documentation", () => {
    const expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    const key = Buffer.from("It's a Secret to Everybody")
    expect(isSignedLikeGitHub(key, Buffer.from("Hello, World!"), expected)).toBe(true)
    expect(isSignedLikeGitHub(key, Buffer.from("Hello, World"), expected)).toBe(false)
    expect(isSignedLikeGitHub(key, Buffer.from("Hello, World!"), "sha256=")).toBe(false)
  })
})
