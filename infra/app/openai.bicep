// Vectors for search by meaning: an Azure OpenAI account with one embedding model.

param name string
param location string
param tags object
param deploymentName string
param modelName string
param modelVersion string

@description('Where texts are processed: Standard in this region, DataZoneStandard in its zone, GlobalStandard anywhere.')
@allowed([
  'Standard'
  'DataZoneStandard'
  'GlobalStandard'
])
param deploymentSku string

@description('Thousands of tokens a minute.')
@minValue(1)
param capacity int

@description('Whether the account has keys. Otherwise Entra alone lets in.')
param hasKeys bool

@description('Whether it can be reached from inside the virtual network, and from clientIpAddress, only.')
param isPrivate bool
param clientIpAddress string

var clientRules = empty(clientIpAddress) ? [] : [
  {
    value: clientIpAddress
  }
]
var ipRules = isPrivate ? clientRules : []

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: {
    name: 'S0'
  }
  properties: {
    // Without a name of its own the account takes no Entra tokens.
    customSubDomainName: name
    disableLocalAuth: !hasKeys
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: isPrivate ? 'Deny' : 'Allow'
      ipRules: ipRules
    }
  }
}

resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2025-06-01' = {
  parent: account
  name: deploymentName
  sku: {
    name: deploymentSku
    capacity: capacity
  }
  properties: {
    model: {
      format: 'OpenAI'
      name: modelName
      version: modelVersion
    }
    // Another version gives other vectors: rows would have to be embedded anew first.
    versionUpgradeOption: 'NoAutoUpgrade'
  }
}

output id string = account.id
output name string = account.name
output endpoint string = 'https://${account.name}.openai.azure.com'
output deploymentName string = deployment.name
