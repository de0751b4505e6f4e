"""Files with one mistake each, and what has to be said of it. A check that misses one of them checks nothing."""

VAULT = """
param location string
resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: 'kv-x'
  location: location
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
  }
}
"""

SITE = """
resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: 'x'
}
resource auth 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    globalValidation: {
      unauthenticatedClientAction: 'Return401'
    }
  }
}
"""


def changed(text, before, after):
    assert text.count(before) >= 1, before
    return text.replace(before, after)


# What is wrong, the file, and a part of the message.
BROKEN = [
    ("a version that is not there", changed(VAULT, "2025-05-01", "2025-05-02"), "not 2025-05-02"),
    ("a type that is not there", changed(VAULT, "KeyVault/vaults", "KeyVault/safes"), "is not a type"),
    ("a type in other letters", changed(VAULT, "KeyVault/vaults", "Keyvault/vaults"), "is written"),
    ("an unknown property", changed(VAULT, "family: 'A'", "family: 'A'\n      size: 1"), "has no property size"),
    ("a missing property", changed(VAULT, "      name: 'standard'\n", ""), "needs name"),
    ("a missing top property", changed(VAULT, "  location: location\n", "  tags: { a: location }\n"), "needs location"),
    ("a wrong literal", changed(VAULT, "'standard'", "'Standard'"), "none of standard, premium"),
    ("a wrong kind of value", changed(VAULT, "'standard'", "3"), "vault.properties.sku.name"),
    ("a text for a truth", changed(VAULT, "    sku: {", "    enableRbacAuthorization: 'true'\n    sku: {"), "BooleanType"),
    ("a number for a list", changed(VAULT, "    sku: {", "    accessPolicies: 3\n    sku: {"), "ArrayType"),
    ("what can be read only", changed(VAULT, "    sku: {", "    hsmPoolResourceId: 'x'\n    sku: {"), "can be read only"),
    ("a literal behind a condition", changed(VAULT, "'standard'", "(location == 'x' && true) ? 'premium' : 'best'"), "is 'best'"),
    ("a literal in a variable", changed(VAULT, "name: 'standard'", "name: tier") + "var tier = 'best'\n", "is 'best'"),
    ("a parameter's choice", changed(VAULT, "name: 'standard'", "name: tier") + "@allowed([\n  'best'\n])\nparam tier string\n", "is 'best'"),
    ("a parameter's type", changed(VAULT, "param location string", "param location int"), "should be string"),
    ("another kind of config", changed(SITE, "authsettingsV2", "authsettingsV3"), "name is 'authsettingsV3'"),
    ("deep in a kind of config", changed(SITE, "'Return401'", "'Return402'"), "is 'Return402'"),
    ("a deep unknown property", changed(SITE, "globalValidation", "globalValidations"), "has no property globalValidations"),
    ("a child without a parent", changed(SITE, "  parent: app\n", ""), "has no parent"),
    ("a child of somebody else", changed(SITE, "'Microsoft.Web/sites@", "'Microsoft.Web/serverfarms@"), "can not be a child"),
    ("more than a name on what exists", changed(SITE, "name: 'x'", "name: 'x'\n  location: 'y'"), "there already"),
    ("what exists without a name", changed(SITE, "  name: 'x'\n", ""), "needs a name"),
    ("a name that is nowhere", changed(VAULT, "family: 'A'", "family: family"), "family is not declared"),
    ("a name in a text that is nowhere", changed(VAULT, "'kv-x'", "'kv-${take(token, 3)}'"), "token is not declared"),
    ("a name that nobody uses", VAULT + "var other = 'x'\n", "is declared, but not used"),
    ("a resource in a resource", changed(VAULT, "  properties: {", "  resource secret 'secrets' = {\n    name: 'x'\n  }\n  properties: {"), "was not understood"),
    ("a key that stands twice", changed(VAULT, "family: 'A'", "family: 'A'\n      family: 'A'"), "stands twice"),
    ("what is no Bicep", changed(VAULT, "properties: {", "properties: {{"), "does not parse"),
]
SOUND = [VAULT, SITE]

UPPER = """
param name string
module lower 'lower.bicep' = {
  name: 'lower'
  params: {
    name: name
    tier: 'best'
  }
}
output id string = lower.outputs.id
"""

LOWER = """
param name string
@allowed([
  'best'
])
param tier string
param days int = 7
output id string = '${name}${tier}${days}'
"""

# Two files, where the upper one uses the lower.
PAIRS = [
    ("a sound pair", (UPPER, LOWER), ""),
    ("a module that is nowhere", (changed(UPPER, "lower.bicep", "other.bicep"), LOWER), "there is no other.bicep"),
    ("a parameter that is missing", (changed(UPPER, "    name: name\n", ""), LOWER), "needs the parameter name"),
    ("a parameter that is not there", (changed(UPPER, "tier: 'best'", "tier: 'best'\n    level: 1"), LOWER), "has no parameter level"),
    ("a parameter's choice", (changed(UPPER, "'best'", "'worst'"), LOWER), "tier is 'worst'"),
    ("a parameter's type", (changed(UPPER, "tier: 'best'", "tier: 'best'\n    days: '7'"), LOWER), "should be of type int"),
    ("an output that is not there", (changed(UPPER, "outputs.id", "outputs.ids"), LOWER), "has no output ids"),
]
